-- title: The cheapest of each GPU
-- order: 15
-- rows_min: 2
-- error: model
-- row_pixels: 26 44
-- table: open
-- caption: Of every kind of GPU the cheapest deployment that meets the targets, by a day's cost.
--   The bar's whisker goes from the least to the most by what models and whole engines were off; without one
--   the error is unknown, or groups come so large that it moves none. Traffic that fills a group of one kind may leave another half idle: more of it can turn the order.
-- empty: Deployments of only one kind of GPU meet the targets.
SELECT gpu, usd_per_day, usd_per_day_low, usd_per_day_high, num_gpus, ttft_ms, tpot_ms,
       usd_per_million_input, usd_per_million_input_low, usd_per_million_input_high,
       usd_per_million_output, usd_per_million_output_low, usd_per_million_output_high,
       prefill, decode
FROM (SELECT deployment.*, off.usd_per_day_low, off.usd_per_day_high, off.usd_per_million_input_low,
             off.usd_per_million_input_high, off.usd_per_million_output_low,
             off.usd_per_million_output_high, row_number() OVER (PARTITION BY gpu
                                   ORDER BY deployment.usd_per_day, role <> 'winner', deployment)
             AS place
      FROM (SELECT plan_id, deployment, role, gpu, usd_per_day, num_gpus, ttft_ms, tpot_ms,
                   usd_per_million_input, usd_per_million_output, prefill, decode
            FROM plan_deployment WHERE plan_id = ?1 AND meets_targets = 1) AS deployment
           LEFT JOIN plan_interval AS off USING (plan_id, deployment))
WHERE place = 1
ORDER BY usd_per_day, gpu;

-- finding
WITH cheapest AS (
  SELECT gpu, min(usd_per_day) AS usd_per_day
  FROM plan_deployment WHERE plan_id = ?1 AND meets_targets = 1 GROUP BY gpu)
SELECT printf('%s is cheapest; %s costs %.0f %% more a day.', best.gpu, next.gpu,
              100.0 * (next.usd_per_day / best.usd_per_day - 1.0))
FROM cheapest AS best JOIN cheapest AS next ON next.gpu <> best.gpu
ORDER BY best.usd_per_day, best.gpu, next.usd_per_day, next.gpu
LIMIT 1;

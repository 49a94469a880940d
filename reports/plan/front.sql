-- title: What speed costs
-- order: 10
-- error: model
-- caption: Every dot is a deployment for this traffic: the time between tokens below, a day's cost
--   at the side. Dots of the front are those that nobody beats in cost, time to the first token and
--   time between tokens at once; several on one column differ in the time to the first token. Left
--   of the upright line the target for the time between tokens is met. Bars of winner and reference
--   go to what they cost when steps are off as models and whole engines were.
-- empty: No deployment could be made of the points that were simulated.
SELECT role, gpu, pools, prefill, decode, num_gpus, ttft_ms, tpot_ms,
       plan_deployment.usd_per_day, plan_interval.usd_per_day_low, plan_interval.usd_per_day_high,
       usd_per_million_input, usd_per_million_input_low, usd_per_million_input_high,
       usd_per_million_output, usd_per_million_output_low, usd_per_million_output_high,
       meets_targets, on_front,
       (SELECT tpot_target_ms FROM plan WHERE plan_id = ?1) AS tpot_target_ms
FROM plan_deployment LEFT JOIN plan_interval USING (plan_id, deployment)
WHERE plan_id = ?1
ORDER BY plan_deployment.usd_per_day, deployment;

-- finding
SELECT printf('%d deployments are shown, %d of them on the front; the winner costs %s a day at %.1f ms a token.',
              count(*), sum(on_front), money(max(usd_per_day) FILTER (WHERE role = 'winner')),
              max(tpot_ms) FILTER (WHERE role = 'winner'))
FROM plan_deployment
WHERE plan_id = ?1;

-- title: What a million tokens cost, by what the GPUs were doing
-- order: 30
-- error: model
-- caption: The price of a GPU-hour spread over the tokens that the run made in it, split like the
--   time of a step. All parts together are the cost of a million tokens; a part names what a
--   speed-up there is worth. The assumptions stand in a table at the end of the page.
-- empty: The run recorded no steps.
SELECT step_phase.phase, sum(phase_ns_sum) / total AS time_share,
       usd_per_million_tokens * sum(phase_ns_sum) / total AS usd_per_million_tokens
FROM step_phase
JOIN (SELECT sum(phase_ns_sum) AS total FROM step_phase WHERE run_id = ?1)
JOIN run USING (run_id)
WHERE run_id = ?1
GROUP BY step_phase.phase
HAVING sum(phase_ns_sum) > 0
ORDER BY sum(phase_ns_sum) DESC, step_phase.phase;

-- finding
SELECT printf('%s per million tokens%s: %.4g %stokens a second and GPU at %s per GPU-hour (%s, %s).',
              money(usd_per_million_tokens),
              CASE WHEN EXISTS (SELECT 1 FROM serving_total WHERE run_id = ?1)
                   THEN ' of full batches, without idle time' ELSE '' END,
              tokens_per_s_per_gpu / CASE WHEN tokens_per_s_per_gpu < 1e4 THEN 1.0 ELSE 1e3 END,
              CASE WHEN tokens_per_s_per_gpu < 1e4 THEN '' ELSE 'thousand ' END,
              money(usd_per_gpu_hour), price, price_date)
FROM run
WHERE run_id = ?1;

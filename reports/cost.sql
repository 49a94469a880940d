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
SELECT printf('$%.3g per million tokens: %.0f tokens a second and GPU at $%.4g per GPU-hour (%s, %s).',
              usd_per_million_tokens, tokens_per_s_per_gpu, usd_per_gpu_hour, price, price_date)
FROM run
WHERE run_id = ?1;

-- title: How throughput changed over the run
-- order: 45
-- rows_min: 2
-- error: model
-- caption: Tokens a second of all GPUs together, one point a window of steps. Where it dips, steps
--   waited: for a busier rank, or for the weights of a rebalance.
-- empty: The run was so short that all of its steps are one window.
SELECT first_step, tokens * 1e9 / step_ns_sum AS tokens_per_s
FROM step
WHERE run_id = ?1 AND step_ns_sum > 0
ORDER BY window;

-- finding
SELECT printf('Between %.0f and %.0f tokens a second.', min(tokens * 1e9 / step_ns_sum),
              max(tokens * 1e9 / step_ns_sum))
FROM step
WHERE run_id = ?1 AND step_ns_sum > 0;

-- title: How the cache of experts warms up
-- order: 88
-- rows_min: 2
-- error: model
-- caption: Above: the share of touched experts that the GPU had, and the most that any policy could have
--   had, one point a window of steps. Below: what came over the link a step. A cache begins with the
--   first experts of each layer; where it never settles, requests change faster than it learns.
SELECT first_step, hits * 1.0 / touches AS hits_share, best_hits * 1.0 / touches AS best_hits_share,
       transfers * 1.0 * expert_bytes / num_steps AS bytes_per_step
FROM offload_window JOIN step USING (run_id, window) JOIN offload USING (run_id)
WHERE run_id = ?1 AND touches > 0
ORDER BY window;

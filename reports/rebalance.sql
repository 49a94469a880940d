-- title: What rebalancing cost
-- order: 110
-- error: model
-- caption: The longest wait of a rank for its weights, at each change of placement, in the step in
--   which they arrive. A change is paid back when experts, all-to-all and waiting of the steps after
--   it, shorter than before the first change, have saved what its own step took longer. Where that
--   takes more steps than lie between two changes, or never comes, rebalance less often or not at
--   all. Steps before the first change may be unlike the others; moesim compare --strategies sets a
--   run beside one that changes nothing.
-- empty: The run moved no weights: its strategy moves none, or no interval was full.
SELECT step, moves, bytes, duration_ns, layers_changed, landing_ns,
       settled_ns * 1.0 / nullif(settled_steps, 0) AS settled_ns_mean,
       landing_ns - settled_ns * 1.0 / nullif(settled_steps, 0) AS cost_ns,
       CASE WHEN first_ns * 1.0 / nullif(first_steps, 0)
                 > settled_ns * 1.0 / nullif(settled_steps, 0)
            THEN (landing_ns - settled_ns * 1.0 / settled_steps)
                 / (first_ns * 1.0 / first_steps - settled_ns * 1.0 / settled_steps)
            END AS payback_steps
FROM rebalance JOIN run USING (run_id)
WHERE run_id = ?1
ORDER BY rebalance;

-- finding
SELECT printf('%d change%s moved %d copies of experts; the longest stall was %.3g ms.', count(*),
              CASE WHEN count(*) = 1 THEN '' ELSE 's' END, sum(moves), max(duration_ns) * 1e-6)
FROM rebalance
WHERE run_id = ?1;

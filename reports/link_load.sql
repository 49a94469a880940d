-- title: The busiest links
-- order: 100
-- error: model
-- caption: The twenty links that were busy for the largest share of the run, in one direction each.
--   By default only the shared expert overlaps the all-to-all (overlap in the scenario lets more), so
--   even a link that sets the pace is idle while GPUs compute: one that is busy for most of the share
--   that dispatch, combine and moved weights take is the bottleneck. Spread its rank's hot experts, or send fewer bytes (a smaller precision,
--   locality, fewer rebalances).
-- empty: One rank alone uses no link.
SELECT name, tier, busy_ns / (SELECT sum(step_ns_sum) FROM step WHERE run_id = ?1) AS busy_share,
       bytes, bytes * 1e9 / (SELECT sum(step_ns_sum) FROM step WHERE run_id = ?1)
              AS mean_bytes_per_s,
       bytes_per_s AS link_bytes_per_s
FROM link_load
WHERE run_id = ?1 AND bytes > 0
ORDER BY busy_ns DESC, link
LIMIT 20;

-- finding
SELECT printf('The busiest, %s, carries bytes for %.3g %% of the run; the share of dispatch, combine and moved weights is %.3g %%.',
              name, 100.0 * busy_ns / (SELECT sum(step_ns_sum) FROM step WHERE run_id = ?1),
              100.0 * (SELECT sum(phase_ns_sum) FROM step_phase
                       WHERE run_id = ?1 AND phase IN ('dispatch', 'combine', 'exchange', 'rebalance'))
                    / (SELECT sum(phase_ns_sum) FROM step_phase WHERE run_id = ?1))
FROM link_load
WHERE run_id = ?1 AND bytes > 0
ORDER BY busy_ns DESC, link
LIMIT 1;

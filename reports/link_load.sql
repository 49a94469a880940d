-- title: The busiest links
-- order: 100
-- error: model
-- caption: The twenty links that were busy for the largest share of the run, in one direction each.
--   A link near 100 % sets the pace: spread its rank's hot experts, or send fewer bytes (a smaller
--   dispatch precision, locality). Links far below it mean that latency and waiting, not bandwidth,
--   take the time.
-- empty: One rank alone uses no link.
SELECT name, tier, busy_ns / (SELECT sum(step_ns_sum) FROM step WHERE run_id = ?1) AS busy_share,
       bytes, bytes * 1e9 / (SELECT sum(step_ns_sum) FROM step WHERE run_id = ?1)
              AS mean_bytes_per_s,
       bytes_per_s AS link_bytes_per_s
FROM link_load
WHERE run_id = ?1 AND bytes > 0
ORDER BY busy_ns DESC, link
LIMIT 20;

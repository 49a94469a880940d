-- title: How busy the GPUs and how full the KV caches are
-- order: 5
-- caption: Share of the time in which a pool's groups step, and share of its KV blocks that are in
--   use, means of each stretch. Busy all the time with a short queue is no overload: groups step
--   as long as one sequence runs, with smaller batches. A full KV cache preempts requests, whose
--   prompts are then read again; fewer sequences at a time or more GPUs help.
-- empty: No requests were simulated; moesim serve does it.
SELECT begin_s, end_s,
       max(100 * busy) FILTER (WHERE pool = 'main') AS main_busy_percent,
       max(100 * kv_fraction) FILTER (WHERE pool = 'main') AS main_kv_percent,
       max(100 * busy) FILTER (WHERE pool = 'prefill') AS prefill_busy_percent,
       max(100 * kv_fraction) FILTER (WHERE pool = 'prefill') AS prefill_kv_percent
FROM serving_window
WHERE run_id = ?1 AND end_s > begin_s
GROUP BY window
ORDER BY window;

-- finding
SELECT group_concat(printf('%s pool: busy %.0f %% of the time, KV cache %.1f %% full, at most %.1f %%',
                           pool, 100 * busy, 100 * kv_fraction, 100 * kv_fraction_max), '; ') || '.'
FROM serving
WHERE run_id = ?1;

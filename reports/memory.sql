-- title: Memory of the fullest GPU
-- order: 120
-- caption: Weights, KV cache and buffers on one GPU, beside the limit that the scenario sets. The
--   KV cache is that of the step in which it is fullest. Room to the limit can take more
--   sequences (tokens_per_rank) or more replicas (redundant_experts).
-- empty: The run recorded no memory.
SELECT part, bytes
FROM memory
WHERE run_id = ?1 AND part NOT IN ('total') AND bytes > 0
ORDER BY part = 'limit', bytes DESC;

-- finding
SELECT printf('%.1f of %.1f GB are taken.', total.bytes * 1e-9, room.bytes * 1e-9)
FROM memory AS total JOIN memory AS room USING (run_id)
WHERE run_id = ?1 AND total.part = 'total' AND room.part = 'limit';

-- title: Where offloaded experts were when a layer needed them
-- order: 86
-- error: model
-- caption: Experts live in host memory or on drives; the GPU keeps some of each layer. Bars: the share
--   of touched experts that it had, that had been fetched ahead, that the host's CPUs computed, and
--   that were fetched while it waited. The line is the most hits that any policy could have had with
--   these slots, knowing the future (Belady). Below the line there is something to win by another
--   policy, above it only by more slots or smaller experts.
SELECT layer, hits * 1.0 / touches AS hits_share, ahead * 1.0 / touches AS ahead_share,
       on_cpu * 1.0 / touches AS on_cpu_share, fetched * 1.0 / touches AS fetched_share,
       best_hits * 1.0 / touches AS best_hits_share, touches, transfers
FROM offload_layer
WHERE run_id = ?1 AND touches > 0
ORDER BY layer;

-- finding
SELECT printf('%s with %d of %d slots a layer had %.0f %% of the experts that were needed, of %.0f %% that any policy could have; %.2f GB a step came over the link, and waiting for it took %.0f %% of the time.',
              policy, slots, experts, 100.0 * sum(hits) / sum(touches),
              100.0 * sum(best_hits) / sum(touches),
              sum(transfers) * 1e-9 * expert_bytes / (SELECT num_steps FROM run WHERE run_id = ?1),
              (SELECT 100 * sum(phase_ns_sum * (phase = 'fetch')) / sum(phase_ns_sum)
               FROM step_phase WHERE run_id = ?1))
FROM offload JOIN offload_layer USING (run_id)
WHERE run_id = ?1;

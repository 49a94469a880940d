-- title: How many slots, and which policy
-- order: 87
-- rows_min: 2
-- error: model
-- caption: All runs of this file that offload the same model's experts on the same GPU. Above: the share
--   of touched experts that the GPU had, by the share of a layer's experts that it keeps; the black
--   line is the most that any policy could have had. Below: tokens a second of a GPU. Time goes with
--   what has to be fetched, so the last slots are worth most.
WITH here AS (SELECT model, gpu, phase, home FROM run JOIN offload USING (run_id)
              WHERE run_id = ?1),
     runs AS (SELECT run.run_id, slots, experts, tokens_per_s_per_gpu,
                     policy || CASE WHEN prefetch > 0 THEN printf(', %d ahead', prefetch) ELSE '' END
                     || CASE misses WHEN 'fetch' THEN '' WHEN 'cpu' THEN ', misses on CPUs'
                                    ELSE ', CPUs where faster' END AS way
              FROM run JOIN offload USING (run_id) JOIN here USING (model, gpu, phase, home)
              WHERE complete)
SELECT way, slots * 1.0 / experts AS slots_share, sum(hits) * 1.0 / sum(touches) AS hits_share,
       sum(best_hits) * 1.0 / sum(touches) AS best_hits_share, max(tokens_per_s_per_gpu) AS tokens_per_s,
       slots, experts
FROM runs JOIN offload_layer USING (run_id)
GROUP BY run_id
ORDER BY way, slots;

-- finding
WITH here AS (SELECT model, gpu, phase, home FROM run JOIN offload USING (run_id)
              WHERE run_id = ?1),
     runs AS (SELECT policy, prefetch, misses, slots, experts, tokens_per_s_per_gpu AS rate
              FROM run JOIN offload USING (run_id) JOIN here USING (model, gpu, phase, home)
              WHERE complete),
     best AS (SELECT *, max(rate) FROM runs), least AS (SELECT *, min(rate) FROM runs)
SELECT printf('From %.3g tokens a second (%s, %d of %d slots) to %.3g (%s%s, %d slots).',
              least.rate, least.policy, least.slots, least.experts, best.rate, best.policy,
              CASE WHEN best.misses = 'fetch' THEN '' ELSE ' and CPUs' END, best.slots)
FROM best, least
WHERE best.rate > least.rate;

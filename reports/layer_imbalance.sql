-- title: Imbalance by layer
-- order: 60
-- error: model
-- caption: Above, how much more the busiest rank carries than the mean rank, averaged over steps (1
--   is even). Below, the time of the slowest rank's experts beside the mean rank's: the others wait
--   for the gap. Queues at the ports of the busiest rank come on top; they are in dispatch, combine
--   and waiting. Where only some layers stand out, place and replicate experts layer by layer.
-- empty: This model has no MoE layers, or every rank has all experts, whole or in part: no layer is
--   unbalanced.
SELECT layer, rank_tokens_max_over_mean_sum / num_steps AS rank_tokens_max_over_mean,
       balancedness_sum / num_steps AS balancedness_share,
       expert_ns_max_sum / num_steps AS expert_ns_max,
       expert_ns_mean_sum / num_steps AS expert_ns_mean,
       layer_ns_sum / num_steps AS layer_ns_mean
FROM layer JOIN (SELECT num_steps, ep, expert_tp FROM run WHERE run_id = ?1)
WHERE run_id = ?1 AND ep > expert_tp
ORDER BY layer;

-- finding
SELECT printf('Most uneven: layer %d, whose busiest rank carries %.2f times the mean.', layer,
              rank_tokens_max_over_mean_sum / num_steps)
FROM layer JOIN (SELECT num_steps FROM run WHERE run_id = ?1)
WHERE run_id = ?1
ORDER BY rank_tokens_max_over_mean_sum DESC, layer
LIMIT 1;

-- title: What the router and the capacity give up, layer by layer
-- order: 85
-- caption: Gate mass is the gate weight of the experts that compute a token, over what the weights
--   of its likeliest experts would sum to: what a model's output loses first. Bars: what of it is
--   given up. Lines: the hottest expert over the mean, in a batch and over the run. A router that
--   evens experts or prefers near ones buys one with the other; a capacity cuts what lies above it.
--   Tokens that get no expert at all pass the layer by; the table below counts them.
SELECT layer,
       1 - gate_mass_sum / layer_route.tokens AS given_up_share,
       tokens_without_expert * 1.0 / layer_route.tokens AS without_expert_share,
       1 + max_violation_batch_sum / batches AS hottest_in_batch,
       1 + max_violation_global AS hottest_in_run,
       layer_route.rerouted_assignments,
       CASE WHEN places > 0 THEN (layer.assignments - layer.dropped_assignments) / places END
         AS places_filled_share
FROM layer_route JOIN layer USING (run_id, layer) JOIN run USING (run_id)
WHERE run_id = ?1 AND layer_route.tokens > 0 AND gate_mass_sum IS NOT NULL
  AND (run.router <> 'trace' OR run.dropped_assignments > 0)
ORDER BY layer;

-- finding
SELECT printf('%s%s keeps %.1f %% of the gate mass; the hottest expert of a batch takes %.2f times '
              || 'the mean%s.',
              run.router,
              CASE WHEN run.dropped_assignments > 0 OR sum(layer_route.rerouted_assignments) > 0
                   THEN printf(' with %s at capacity factor %g', run.drop_policy,
                               run.capacity_factor)
                   ELSE '' END,
              100.0 * sum(gate_mass_sum) / sum(layer_route.tokens),
              1 + sum(max_violation_batch_sum) / sum(batches),
              CASE WHEN sum(tokens_without_expert) > 0
                   THEN printf(', and %.1f %% of the tokens get no expert at all',
                               100.0 * sum(tokens_without_expert) / sum(layer_route.tokens))
                   ELSE '' END)
FROM layer_route JOIN run USING (run_id)
WHERE run_id = ?1;

-- title: The runs side by side
-- order: 10
-- rows_min: 2
-- table: open
-- row_pixels: 24 60
-- error: model
-- caption: Every run of this results file. Shorter bars are better in all three panels. A strategy
--   that lowers the imbalance but not the step time moved the bottleneck, or pays for its moves;
--   decide by the cost.
-- empty: The results file holds one run, so there is nothing to set it beside.
SELECT replace(replace(CASE WHEN label <> '' THEN label ELSE scenario || ' (' || strategy || ')' END,
                       char(10), ' '), char(13), ' ') AS run,
       strategy, gpu, num_gpus, step_ns_mean, usd_per_million_tokens, tokens_per_s_per_gpu,
       rank_tokens_max_over_mean,
       CASE WHEN assignments > 0 THEN dropped_assignments * 1.0 / assignments END AS dropped_share,
       rebalance_ns, gpu_model, error_median AS error_share, run_id, digest
FROM run
WHERE complete = 1
ORDER BY run.rowid;

-- finding
SELECT printf('%s is cheapest: $%.3g per million tokens, %s.',
              CASE WHEN label <> '' THEN label ELSE scenario || ' (' || strategy || ')' END,
              usd_per_million_tokens,
              CASE WHEN (SELECT max(usd_per_million_tokens) FROM run WHERE complete = 1)
                        > usd_per_million_tokens * 1.0005
                   THEN printf('%.1f %% less than the dearest',
                               100 - 100 * usd_per_million_tokens
                                     / (SELECT max(usd_per_million_tokens) FROM run
                                        WHERE complete = 1))
                   ELSE 'as are the others' END)
FROM run
WHERE complete = 1
ORDER BY usd_per_million_tokens, run.rowid
LIMIT 1;

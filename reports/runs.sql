-- title: The runs side by side
-- order: 10
-- rows_min: 2
-- table: open
-- row_pixels: 24 60
-- error: model
-- caption: The runs that were compared, or else those of this scenario in the results file. Shorter
--   bars are better in all three panels. A strategy that lowers the imbalance but not the step time
--   moved the bottleneck, or pays for its moves; decide by the cost.
-- empty: The results file holds one run of this scenario, so there is nothing to set it beside; what
--   moesim serve stored, moesim diff sets side by side.
WITH mine AS (
  SELECT study_id, group_label FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1),
alike AS ( -- the runs it was compared with last, else those that no comparison made
  SELECT run_id, name AS run, position FROM study
  WHERE (study_id, group_label) = (SELECT study_id, group_label FROM mine)
  UNION ALL
  SELECT run_id, CASE WHEN label <> '' THEN label ELSE scenario || ' (' || strategy || ')' END
                 || CASE WHEN count(*) OVER (
                                PARTITION BY label, CASE label WHEN '' THEN strategy END) > 1
                         THEN ' ' || substr(run_id, 1, 4) ELSE '' END,
         run.rowid
  FROM run
  WHERE NOT EXISTS (SELECT 1 FROM mine) AND NOT EXISTS (SELECT 1 FROM serving WHERE run_id = ?1)
    AND complete = 1 AND run_id NOT IN (SELECT run_id FROM serving)
    AND scenario = (SELECT scenario FROM run WHERE run_id = ?1)
    AND (label = '') = (SELECT label = '' FROM run WHERE run_id = ?1))
SELECT replace(replace(alike.run, char(10), ' '), char(13), ' ') AS run,
       strategy, gpu, num_gpus, step_ns_mean, usd_per_million_tokens, tokens_per_s_per_gpu,
       rank_tokens_max_over_mean,
       CASE WHEN assignments > 0 THEN dropped_assignments * 1.0 / assignments END AS dropped_share,
       rebalance_ns, gpu_model, error_median AS error_share, run_id, digest
FROM alike JOIN run USING (run_id)
WHERE complete = 1
ORDER BY position;

-- finding
WITH mine AS (
  SELECT study_id, group_label FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1),
alike AS ( -- the runs it was compared with last, else those that no comparison made
  SELECT run_id, name AS run, position FROM study
  WHERE (study_id, group_label) = (SELECT study_id, group_label FROM mine)
  UNION ALL
  SELECT run_id, CASE WHEN label <> '' THEN label ELSE scenario || ' (' || strategy || ')' END
                 || CASE WHEN count(*) OVER (
                                PARTITION BY label, CASE label WHEN '' THEN strategy END) > 1
                         THEN ' ' || substr(run_id, 1, 4) ELSE '' END,
         run.rowid
  FROM run
  WHERE NOT EXISTS (SELECT 1 FROM mine) AND NOT EXISTS (SELECT 1 FROM serving WHERE run_id = ?1)
    AND complete = 1 AND run_id NOT IN (SELECT run_id FROM serving)
    AND scenario = (SELECT scenario FROM run WHERE run_id = ?1)
    AND (label = '') = (SELECT label = '' FROM run WHERE run_id = ?1)),
worth AS ( -- of all changes of placement that have steps behind them
  SELECT run_id, first_ns * 1.0 / first_steps AS before_ns,
         sum(settled_ns) * 1.0 / sum(settled_steps) AS settled_ns,
         avg(landing_ns - settled_ns * 1.0 / settled_steps) AS cost_ns,
         avg(settled_steps) AS steps_between
  FROM rebalance JOIN run USING (run_id) JOIN alike USING (run_id)
  WHERE complete = 1 AND settled_steps > 0 AND first_steps > 0
  GROUP BY run_id
  HAVING (SELECT count(*) FROM alike) <= 4 -- of more the ranking tells
  ORDER BY position),
judged AS ( -- what the comparison of strategies says, which the terminal says too
  SELECT run_id, payback_steps,
         cast(payback_steps AS INTEGER) + (payback_steps > cast(payback_steps AS INTEGER)) AS steps,
         (SELECT other.name FROM study AS other JOIN run USING (run_id)
          WHERE (other.study_id, other.group_label) = (study.study_id, study.group_label)
          ORDER BY strategy <> 'static', position LIMIT 1) AS reference
  FROM study
  WHERE (study_id, group_label) = (SELECT study_id, group_label FROM mine)
    AND is_strategy = 1 AND changes > 0)
SELECT printf('%s is cheapest: %s per million tokens, %s%s.',
              alike.run,
              money(usd_per_million_tokens),
              CASE WHEN (SELECT max(usd_per_million_tokens) FROM alike JOIN run USING (run_id)) > usd_per_million_tokens * 1.0005
                   THEN printf('%.1f %% less than the dearest',
                               100 - 100 * usd_per_million_tokens
                                     / (SELECT max(usd_per_million_tokens) FROM alike JOIN run USING (run_id)))
                   ELSE 'as are the others' END,
              CASE WHEN dropped_assignments > 0
                   THEN printf('; it drops %.3g %% of all assignments',
                               100.0 * dropped_assignments / assignments)
                   ELSE '' END)
       || ifnull((SELECT group_concat(
              printf(' %s: experts, all-to-all and waiting go from %.3g to %.3g ms a step; '
                     || 'a change of placement costs %.3g ms, %s.',
                     alike.run, before_ns * 1e-6, settled_ns * 1e-6, cost_ns * 1e-6,
                     CASE WHEN judged.run_id IS NOT NULL AND judged.payback_steps IS NULL
                          THEN 'never paid back against ' || reference
                          WHEN judged.run_id IS NOT NULL
                          THEN printf('paid back after %d steps against %s',
                                      judged.steps, reference)
                          WHEN before_ns <= settled_ns THEN 'never paid back'
                          WHEN cost_ns / (before_ns - settled_ns) > steps_between
                          THEN printf('paid back after %d steps, but this run has only %d '
                                      || 'behind each',
                                      1 + cost_ns / (before_ns - settled_ns), steps_between)
                          ELSE printf('paid back after %d steps, if those before it are typical',
                                      1 + cost_ns / (before_ns - settled_ns)) END), '')
          FROM worth JOIN alike USING (run_id) LEFT JOIN judged USING (run_id)), '')
FROM alike JOIN run USING (run_id)
WHERE complete = 1
ORDER BY usd_per_million_tokens, position
LIMIT 1;

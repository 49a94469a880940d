-- title: What the best strategy depends on
-- order: 8
-- rows_min: 2
-- table: open
-- row_pixels: 26 44
-- error: model
-- caption: The best strategy's gain over leaving the experts in place, net of its moves, in each
--   setting that was compared. Bars of another length than the first one's show what to decide
--   before choosing a strategy.
SELECT CASE WHEN group_label = '' THEN 'as the scenario has it' ELSE group_label END AS setting,
       study.name AS strategy, gain AS gain_share,
       CASE WHEN changes = 0 OR first_steps > 0 -- else no step lies behind a change
              AND run_id IN (SELECT run_id FROM rebalance WHERE settled_steps > 0)
            THEN settled_gain END AS settled_gain_share,
       step_ns_mean, usd_per_million_tokens, verdict
FROM study JOIN run USING (run_id)
WHERE study_id = (SELECT study_id FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1)
  AND place = 1
  AND is_strategy = 1
ORDER BY position;

-- finding
SELECT printf('Balancing pays in %d of %d settings%s.', sum(gain >= 0.005 AND changes > 0), count(*),
              CASE WHEN sum(gain >= 0.005 AND changes = 0) > 0
                   THEN printf('; in %d another fixed placement is best', sum(gain >= 0.005 AND changes = 0))
                   ELSE '' END)
FROM study
WHERE study_id = (SELECT study_id FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1)
  AND place = 1;

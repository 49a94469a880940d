-- title: Strategies, ranked net of their moves
-- order: 4
-- rows_min: 2
-- table: open
-- row_pixels: 26 34
-- error: model
-- caption: How much shorter a strategy makes a step than leaving the experts in place, behind its
--   first change. The bar and its number are what is left when the stalls of moved weights are paid;
--   a long loss is cut, and its number says how long it is. The mark is what settled steps save, that
--   is, what better balance is worth where moving costs nothing. A long way from bar to mark asks for
--   fewer changes, or for a strategy that moves less.
WITH mine AS (
  SELECT study.*, changes = 0 OR first_steps > 0 -- else no step lies behind a change
                  AND run_id IN (SELECT run_id FROM rebalance WHERE settled_steps > 0) AS is_settled
  FROM study JOIN run USING (run_id)
  WHERE (study_id, group_label) = (
    SELECT study_id, group_label FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1))
SELECT study.name AS strategy, place, gain AS gain_share,
       CASE WHEN is_settled THEN settled_gain END AS settled_gain_share,
       step_ns_mean, usd_per_million_tokens, settled_balancedness AS balancedness, balancedness_vllm, rank_imbalance,
       rank_variation, CASE WHEN changes > 0 THEN interval_balancedness END AS interval_balancedness,
       bound_split, bound_placement, changes, moves, moved_bytes,
       CASE WHEN is_settled THEN change_ns END AS change_ns, payback_steps,
       dispatch_cross_node_bytes * 1.0 / nullif(dispatch_bytes, 0) AS cross_node_share,
       CASE WHEN assignments > 0 THEN dropped_assignments * 1.0 / assignments END AS dropped_share,
       run_id
FROM mine AS study JOIN run USING (run_id)
WHERE is_strategy = 1
ORDER BY place;

-- finding
WITH mine AS (
  SELECT study.*, changes = 0 OR first_steps > 0
                  AND run_id IN (SELECT run_id FROM rebalance WHERE settled_steps > 0) AS is_settled
  FROM study JOIN run USING (run_id)
  WHERE (study_id, group_label) = (
    SELECT study_id, group_label FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1))
SELECT printf('Net of its moves %s is first with %+.1f %%; once settled %s is, with %+.1f %%.',
              best.name, 100 * best.gain, settled.name, 100 * settled.settled_gain)
FROM mine AS best,
     (SELECT * FROM mine WHERE is_settled ORDER BY settled_gain DESC, place LIMIT 1) AS settled
WHERE best.place = 1;

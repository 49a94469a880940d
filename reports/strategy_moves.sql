-- title: Balance against what it moves
-- order: 5
-- rows_min: 2
-- caption: Each point is a strategy: the weights that one change of placement moves, and how even
--   the ranks are in the mean step. Best is the top left corner. The line joins those that nobody
--   beats in both. Strategies that move nothing stand at the left edge; where points crowd, some
--   names are in the data alone.
SELECT name AS strategy, settled_balancedness AS balancedness,
       moved_bytes * 1.0 / max(changes, 1) AS change_bytes, gain AS gain_share,
       NOT EXISTS (
         SELECT 1 FROM study AS other JOIN run AS its USING (run_id)
         WHERE (other.study_id, other.group_label) = (study.study_id, study.group_label)
           AND other.moved_bytes * 1.0 / max(other.changes, 1)
               <= study.moved_bytes * 1.0 / max(study.changes, 1)
           AND its.settled_balancedness >= run.settled_balancedness
           AND (other.moved_bytes * 1.0 / max(other.changes, 1)
                < study.moved_bytes * 1.0 / max(study.changes, 1)
                OR its.settled_balancedness > run.settled_balancedness)) AS on_front
FROM study JOIN run USING (run_id)
WHERE (study_id, group_label) = (
  SELECT study_id, group_label FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1)
  AND is_strategy = 1
  AND (SELECT max(changes) FROM study AS other
       WHERE (other.study_id, other.group_label) = (study.study_id, study.group_label)) > 0
ORDER BY change_bytes, balancedness DESC;

-- finding
WITH mine AS (
  SELECT name, strategy, settled_balancedness AS balancedness,
         moved_bytes * 1.0 / max(changes, 1) AS change_bytes
  FROM study JOIN run USING (run_id)
  WHERE (study_id, group_label) = (
    SELECT study_id, group_label FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1)
    AND is_strategy = 1)
SELECT printf('Most even is %s, %.3f, for %.3g GB a change', name, balancedness, change_bytes * 1e-9)
       || ifnull((SELECT printf('; eplb reaches %.3f for %.3g GB', balancedness, change_bytes * 1e-9)
                  FROM mine AS eplb WHERE eplb.strategy = 'eplb' AND eplb.name <> mine.name), '')
       || '.'
FROM mine
ORDER BY balancedness DESC, change_bytes
LIMIT 1;

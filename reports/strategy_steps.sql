-- title: Steps over time, by strategy
-- order: 7
-- rows_min: 2
-- error: model
-- caption: The mean step of each window, with the experts left in place, with the three best
--   strategies and with eplb. Peaks are steps that wait for moved weights; a line that rises again
--   between two peaks shows a placement that traffic has left behind.
WITH mine AS (
  SELECT * FROM study
  WHERE (study_id, group_label) = (
    SELECT study_id, group_label FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1)),
shown AS (
  SELECT run_id, name, row_number() OVER (ORDER BY place) AS line
  FROM mine JOIN run USING (run_id)
  WHERE is_strategy = 1 AND (place <= 3 OR strategy IN ('static', 'eplb')))
SELECT (first_step + step.num_steps / 2.0) AS step, step.num_steps,
       max(CASE WHEN line = 1 THEN step_ns_sum * 1.0 / step.num_steps END) AS step_ns_1,
       max(CASE WHEN line = 2 THEN step_ns_sum * 1.0 / step.num_steps END) AS step_ns_2,
       max(CASE WHEN line = 3 THEN step_ns_sum * 1.0 / step.num_steps END) AS step_ns_3,
       max(CASE WHEN line = 4 THEN step_ns_sum * 1.0 / step.num_steps END) AS step_ns_4,
       max(CASE WHEN line = 5 THEN step_ns_sum * 1.0 / step.num_steps END) AS step_ns_5,
       (SELECT name FROM shown WHERE line = 1) AS name_1,
       (SELECT name FROM shown WHERE line = 2) AS name_2,
       ifnull((SELECT name FROM shown WHERE line = 3), '') AS name_3,
       ifnull((SELECT name FROM shown WHERE line = 4), '') AS name_4,
       ifnull((SELECT name FROM shown WHERE line = 5), '') AS name_5
FROM step JOIN shown USING (run_id)
WHERE step.num_steps > 0 AND (SELECT count(*) FROM shown) > 1
GROUP BY step.window
ORDER BY step.window;

-- finding
WITH mine AS (
  SELECT name, place, strategy, step_ns_mean
  FROM study JOIN run USING (run_id)
  WHERE (study_id, group_label) = (
    SELECT study_id, group_label FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1)
    AND is_strategy = 1)
SELECT printf('The mean step takes %.4g ms with %s', best.step_ns_mean * 1e-6, best.name)
       || ifnull((SELECT printf(', %.4g ms with the experts left in place', step_ns_mean * 1e-6)
                  FROM mine WHERE strategy = 'static' AND place > 1), '')
       || '.'
FROM mine AS best
WHERE best.place = 1;

-- title: What the settings cost together
-- order: 9
-- rows_min: 4
-- row_pixels: 8 8
-- error: model
-- caption: Cost of a million tokens in every combination that was simulated of the setting varied
--   last, or of the strategies (across), with the other settings (down); the cheapest is framed.
--   Where rows look alike, what tells them apart does not matter; where the cheapest column differs
--   from row to row, choose both together.
WITH mine AS (SELECT study_id FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1),
named AS ( -- the comparison in all its settings, else the points of the sweep
  SELECT run_id, position AS at, trim(group_label || ' ' || name) AS name,
         count(*) FILTER (WHERE group_label <> '') OVER () > 0 AS by_strategy
  FROM study WHERE study_id = (SELECT study_id FROM mine)
  UNION ALL
  SELECT run_id, rowid, label, 0 FROM run
  WHERE NOT EXISTS (SELECT 1 FROM mine) AND run_id NOT IN (SELECT run_id FROM serving)
    AND scenario = (SELECT scenario FROM run WHERE run_id = ?1)),
parted AS ( -- at the last blank
  SELECT *, trim(rtrim(name, replace(name, ' ', ''))) AS row_name,
         substr(name, 1 + length(rtrim(name, replace(name, ' ', '')))) AS last
  FROM named WHERE name LIKE '%=% %'),
keyed AS (
  SELECT *, CASE WHEN by_strategy THEN 'strategy' ELSE substr(last, 1, instr(last, '=') - 1) END
              AS column_key,
         substr(last, 1 + instr(last, '=')) AS column_value,
         instr(row_name, ' ') = 0 AS row_is_one,
         substr(row_name, 1, instr(row_name, '=') - 1) AS first_key
  FROM parted WHERE by_strategy OR instr(last, '=') > 0),
cells AS (
  SELECT run_id, min(at) AS at, row_name, first_key, row_is_one, column_key, column_value
  FROM keyed GROUP BY row_name, column_key, column_value),
grid AS (
  SELECT count(DISTINCT row_name) AS num_rows, count(DISTINCT column_value) AS num_columns,
         min(row_is_one) AND min(first_key) = max(first_key) AS row_is_one
  FROM cells HAVING min(column_key) = max(column_key))
SELECT CASE WHEN grid.row_is_one THEN first_key ELSE '' END AS row_setting,
       CASE WHEN grid.row_is_one THEN substr(row_name, 2 + length(first_key)) ELSE row_name END
         AS row_value,
       column_key AS column_setting, column_value,
       usd_per_million_tokens, step_ns_mean,
       CASE WHEN assignments > 0 THEN dropped_assignments * 1.0 / assignments END AS dropped_share,
       dense_rank() OVER (ORDER BY row_at) - 1 AS row_place,
       dense_rank() OVER (ORDER BY column_at) - 1 AS column_place
FROM (SELECT *, min(at) OVER (PARTITION BY row_name) AS row_at,
             min(at) OVER (PARTITION BY column_value) AS column_at FROM cells), grid
  JOIN run USING (run_id)
WHERE num_rows > 1 AND num_columns > 1 AND complete = 1
  AND 2 * (SELECT count(*) FROM cells) >= num_rows * num_columns
ORDER BY row_place, column_place;

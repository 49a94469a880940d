-- title: Which layers are worth balancing
-- order: 6
-- rows_min: 2
-- error: model
-- caption: What the slowest rank's experts took less in each layer than with the experts left in
--   place, mean step. Layers with small bars can be left out of balancing: it saves their redundant
--   experts' memory and their moves.
SELECT own.layer,
       reference.expert_ns_max_sum / base.num_steps - own.expert_ns_max_sum / run.num_steps
         AS saved_ns,
       reference.rank_tokens_max_over_mean_sum / base.num_steps AS reference_max_over_mean,
       own.rank_tokens_max_over_mean_sum / run.num_steps AS max_over_mean,
       study.name AS strategy
FROM study JOIN run USING (run_id) JOIN layer AS own USING (run_id)
JOIN study AS other ON (other.study_id, other.group_label) = (study.study_id, study.group_label)
JOIN run AS base ON base.run_id = other.run_id AND base.strategy = 'static'
JOIN layer AS reference ON reference.run_id = base.run_id AND reference.layer = own.layer
WHERE study.rowid = (SELECT rowid FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1)
  AND run.strategy <> 'static' AND study.is_strategy = 1
ORDER BY own.layer;

-- finding
WITH saved AS (
  SELECT own.layer, study.name AS strategy,
         reference.expert_ns_max_sum / base.num_steps - own.expert_ns_max_sum / run.num_steps AS ns
  FROM study JOIN run USING (run_id) JOIN layer AS own USING (run_id)
  JOIN study AS other ON (other.study_id, other.group_label) = (study.study_id, study.group_label)
  JOIN run AS base ON base.run_id = other.run_id AND base.strategy = 'static'
  JOIN layer AS reference ON reference.run_id = base.run_id AND reference.layer = own.layer
  WHERE study.rowid = (SELECT rowid FROM study WHERE run_id = ?1 ORDER BY rowid DESC LIMIT 1)
    AND run.strategy <> 'static' AND study.is_strategy = 1),
ranked AS (
  SELECT *, row_number() OVER (ORDER BY ns DESC) AS place, sum(ns) OVER () AS total,
         sum(ns) OVER (ORDER BY ns DESC ROWS UNBOUNDED PRECEDING) AS running
  FROM saved)
SELECT printf('Of what %s saves, %d of %d layers bring %.0f %%.', strategy, place,
              (SELECT count(*) FROM saved), 100 * running / total)
FROM ranked
WHERE total > 0 AND running >= 0.8 * total
ORDER BY place
LIMIT 1;

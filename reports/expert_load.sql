-- title: Load of every expert
-- order: 40
-- hover: layer expert
-- caption: One cell an expert, coloured by its tokens over the mean of its layer (1 is even). Bright
--   cells are hot experts. Where they stay hot, replicas help (redundant_experts); where the map is
--   calm, replicas only take memory.
-- empty: This model has no experts, so there is no expert load to show.
SELECT layer, expert, tokens,
       round(tokens * 1.0 / nullif(avg(tokens) OVER (PARTITION BY layer), 0), 4) AS tokens_over_mean
FROM expert_load
WHERE run_id = ?1
ORDER BY layer, expert;

-- finding
SELECT printf('Hottest: expert %d of layer %d with %.1f times its layer''s mean; %.0f %% of all '
              || 'experts get less than half of theirs.',
              expert, layer, tokens_over_mean,
              100.0 * (sum(tokens_over_mean < 0.5) OVER ()) / (count(*) OVER ()))
FROM (SELECT layer, expert,
             tokens * 1.0 / nullif(avg(tokens) OVER (PARTITION BY layer), 0) AS tokens_over_mean
      FROM expert_load
      WHERE run_id = ?1)
ORDER BY tokens_over_mean DESC, layer, expert
LIMIT 1;

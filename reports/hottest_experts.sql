-- title: The hottest experts
-- order: 50
-- caption: The twenty experts with the most tokens over the mean of their layer (1 is even). These
--   are the ones that replicas help first: with n replicas a bar shrinks to its n-th part.
-- empty: This model has no experts, so none runs hot.
SELECT layer, expert, tokens, dropped_assignments,
       round(tokens / nullif(mean, 0), 4) AS tokens_over_mean
FROM (SELECT *, avg(tokens) OVER (PARTITION BY layer) AS mean FROM expert_load WHERE run_id = ?1)
ORDER BY tokens / nullif(mean, 0) DESC, layer, expert
LIMIT 20;

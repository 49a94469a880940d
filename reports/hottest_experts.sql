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

-- finding
SELECT printf('The hottest, expert %d of layer %d, takes %.1f times the mean of its layer; with two replicas each would take %.1f.',
              expert, layer, tokens / mean, tokens / mean / 2)
FROM (SELECT *, avg(tokens) OVER (PARTITION BY layer) AS mean FROM expert_load WHERE run_id = ?1)
WHERE mean > 0
ORDER BY tokens / mean DESC, layer, expert
LIMIT 1;

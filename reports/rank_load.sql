-- title: Load of every rank over time
-- order: 70
-- hover: rank first_step
-- caption: One row a rank, one column a window of steps, coloured by the rank's tokens over the mean
--   of that window (1 is even). A bright row is a rank that stays hot: place experts anew. Bright
--   spots that wander are drift: rebalance more often than they wander, or not at all. Layers are
--   summed here, so ranks that are hot in different layers even out: see the imbalance by layer.
-- empty: One rank alone, or a model without experts, cannot be uneven.
SELECT rank, first_step, rank_window.tokens,
       round(rank_window.tokens * 1.0
             / nullif(avg(rank_window.tokens) OVER (PARTITION BY window), 0), 4) AS tokens_over_mean
FROM rank_window JOIN step USING (run_id, window)
WHERE run_id = ?1 AND (SELECT max(rank) FROM rank_window WHERE run_id = ?1) > 0
ORDER BY rank, first_step;

-- finding
SELECT printf('Over the whole run rank %d carries most, %.2f times the mean.', rank,
              sum(tokens) * 1.0 / (SELECT sum(tokens) * 1.0 / count(DISTINCT rank)
                                   FROM rank_window WHERE run_id = ?1))
FROM rank_window
WHERE run_id = ?1
GROUP BY rank
ORDER BY sum(tokens) DESC, rank
LIMIT 1;

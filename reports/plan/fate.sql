-- title: What was tried, and what was ruled out
-- order: 30
-- row_pixels: 26 44
-- table: open
-- caption: A point is one layout and batch of one phase. Bounds rule out what cannot be on the front
--   before anything is simulated.
-- empty: Nothing was tried.
SELECT fate, points
FROM plan_fate
WHERE plan_id = ?1 AND points > 0
ORDER BY points DESC, fate;

-- finding
SELECT CASE WHEN count(*) FILTER (WHERE fate <> 'simulated' AND points > 0) = 0
            THEN printf('All %d points were simulated.', sum(points))
            ELSE printf('Of %d points %d were simulated; the others were ruled out before.',
                        sum(points), ifnull(sum(points) FILTER (WHERE fate = 'simulated'), 0)) END
FROM plan_fate
WHERE plan_id = ?1;

-- title: What 10 % more or less does
-- order: 20
-- error: model
-- row_pixels: 26 30
-- caption: The change of a day's cost when one number is a tenth larger or smaller. Price, traffic,
--   targets and utilisation are weighed again over all points; other lengths are simulated anew with
--   the winner's layout. A bar that is missing: a target is missed then, by every deployment or, of
--   other lengths, by the winner's layout.
-- empty: No deployment meets the targets.
SELECT what || CASE WHEN factor < 1 THEN ', 10 % less' ELSE ', 10 % more' END AS what, factor,
       usd_per_day,
       100.0 * (usd_per_day / (SELECT usd_per_day FROM plan_deployment
                               WHERE plan_id = ?1 AND role = 'winner') - 1.0) AS change_percent,
       winner_changes
FROM plan_shift
WHERE plan_id = ?1
ORDER BY shift;

-- finding
SELECT CASE WHEN abs(change) < 0.05 THEN 'None of these changes the day''s cost.'
            ELSE printf('The largest change is of the %s, 10 %% %s: %+.1f %%%s.', what,
                        CASE WHEN factor < 1 THEN 'less' ELSE 'more' END, change,
                        CASE WHEN winner_changes THEN ', with another deployment' ELSE '' END) END
FROM (SELECT *, 100.0 * (usd_per_day / (SELECT usd_per_day FROM plan_deployment
                                        WHERE plan_id = ?1 AND role = 'winner') - 1.0) AS change
      FROM plan_shift WHERE plan_id = ?1)
WHERE change IS NOT NULL
ORDER BY abs(change) DESC, shift
LIMIT 1;

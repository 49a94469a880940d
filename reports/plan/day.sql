-- title: GPUs through the day
-- order: 12
-- error: model
-- caption: The winner's GPUs in each hour of the plan's day: those whose work fills them, those that
--   run beside them because groups come whole and pools are planned with room, and those of the
--   busiest hour that are scaled down, at the share of their price that the plan says. Data have each
--   pool, and an hour's dollars.
-- empty: No deployment meets the targets.
SELECT hour, prefill_gpus, prefill_busy_gpus, decode_gpus, decode_busy_gpus,
       (prefill_busy_gpus + decode_busy_gpus) / (prefill_gpus + decode_gpus) AS load,
       idle_gpus, idle_paid, usd
FROM plan_hour
WHERE plan_id = ?1
ORDER BY hour;

-- finding
SELECT CASE WHEN max(idle_gpus) < 0.5
            THEN printf('All %.0f GPUs run at every hour, at %.0f %% of their rate on average: %s a day.',
                        max(used), 100.0 * avg(busy / used), money(sum(usd)))
            ELSE printf('%.0f GPUs run in the busiest hour and %.0f in the quietest; those that are scaled down cost %.0f %% of their price, %s a day of %s.',
                        max(used), min(used), 100.0 * max(idle_paid),
                        money(sum(usd * idle_gpus * idle_paid
                                  / (used + idle_gpus * idle_paid))), money(sum(usd))) END
FROM (SELECT *, prefill_gpus + decode_gpus AS used, prefill_busy_gpus + decode_busy_gpus AS busy
      FROM plan_hour WHERE plan_id = ?1)
HAVING count(*) > 0;

-- title: What capacity factors drop
-- order: 80
-- caption: The share of assignments that a capacity factor would have dropped on this traffic, when
--   each rank's tokens have capacities of their own (rank) and when the whole step competes
--   (global). The dashed line is the run's own factor, where it has one. Take the smallest factor
--   whose drops your model's quality bears: memory and time for padding grow with it. Capacities are
--   whole tokens, so few tokens in a scope make stairs.
-- empty: This model has no experts, so nothing can be dropped.
SELECT scope, drop_curve.capacity_factor,
       drop_curve.dropped_assignments * 1.0 / drop_curve.assignments AS dropped_share,
       drop_curve.dropped_assignments, drop_curve.assignments,
       run.capacity_factor AS run_capacity_factor
FROM drop_curve JOIN run USING (run_id)
WHERE run_id = ?1 AND drop_curve.assignments > 0
ORDER BY scope DESC, drop_curve.capacity_factor;

-- finding
SELECT CASE WHEN capacity_factor <> 0
            THEN printf('The run dropped %.1f %% of its assignments at capacity factor %g, scope %s.',
                        100.0 * dropped_assignments / assignments, capacity_factor, capacity_scope)
            ELSE 'Without a limit nothing was dropped; a factor of 1.25 would have dropped '
                 || ifnull((SELECT printf('%.1f %%', 100.0 * curve.dropped_assignments / curve.assignments)
                            FROM drop_curve AS curve
                            WHERE run_id = ?1 AND curve.capacity_factor = 1.25
                              AND scope = run.capacity_scope), 'some')
                 || ifnull((SELECT printf(', and %g is the first that drops less than 1 %%',
                                          min(curve.capacity_factor))
                            FROM drop_curve AS curve
                            WHERE run_id = ?1 AND scope = run.capacity_scope
                              AND curve.dropped_assignments < 0.01 * curve.assignments
                            HAVING count(*) > 0), '')
                 || printf(' (scope %s).', capacity_scope) END
FROM run
WHERE run_id = ?1 AND assignments > 0;

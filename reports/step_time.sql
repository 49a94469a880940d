-- title: Where a step's time goes
-- order: 20
-- error: model
-- caption: Each bar is the mean step of one window, split by what the mean rank was doing. Dispatch
--   and combine are the all-to-all; waiting is for slower ranks. Much waiting asks for better
--   balance, much dispatch and combine for a larger batch, a faster network or fewer nodes, much
--   rebalancing for a longer interval, and much fetching of offloaded experts for more slots. A bar
--   that is cut at the top carries its length.
-- empty: The run recorded no steps.
SELECT step.window, step.first_step, step.num_steps,
       step.step_ns_sum * 1.0 / step.num_steps AS step_ns_mean,
       sum(phase_ns_sum) FILTER (WHERE phase = 'attention') / step.num_steps AS attention_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'dense') / step.num_steps AS dense_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'gate') / step.num_steps AS gate_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'dispatch') / step.num_steps AS dispatch_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'expert') / step.num_steps AS expert_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'combine') / step.num_steps AS combine_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'exchange') / step.num_steps AS exchange_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'waiting') / step.num_steps AS waiting_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'rebalance') / step.num_steps AS rebalance_ns,
       sum(phase_ns_sum) FILTER (WHERE phase = 'fetch') / step.num_steps AS fetch_ns
FROM step JOIN step_phase USING (run_id, window)
WHERE run_id = ?1 AND step.num_steps > 0
GROUP BY step.window
ORDER BY step.window;

-- finding
SELECT 'Largest parts: ' || group_concat(part, ', ') || '.'
FROM (SELECT printf('%s %.0f %%', phase,
                    100 * sum(phase_ns_sum) / (SELECT sum(phase_ns_sum) FROM step_phase
                                               WHERE run_id = ?1)) AS part
      FROM step_phase
      WHERE run_id = ?1
      GROUP BY phase
      HAVING sum(phase_ns_sum) > 0
      ORDER BY sum(phase_ns_sum) DESC
      LIMIT 3);

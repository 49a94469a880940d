-- title: What speed costs
-- order: 10
-- error: model
-- caption: Every dot is a deployment for this traffic: the time between tokens below, a day's cost
--   at the side. Dots of the front are those that nobody beats in cost, time to the first token and
--   time between tokens at once; several on one column differ in the time to the first token. Left
--   of the upright line the target for the time between tokens is met.
-- empty: No deployment could be made of the points that were simulated.
SELECT role, gpu, pools, prefill, decode, num_gpus, ttft_ms, tpot_ms, usd_per_day,
       usd_per_million_input, usd_per_million_output, meets_targets, on_front,
       (SELECT tpot_target_ms FROM plan WHERE plan_id = ?1) AS tpot_target_ms
FROM plan_deployment
WHERE plan_id = ?1
ORDER BY usd_per_day, deployment;

-- finding
SELECT printf('%d deployments are shown, %d of them on the front; the winner costs %s a day at %.1f ms a token.',
              count(*), sum(on_front), money(max(usd_per_day) FILTER (WHERE role = 'winner')),
              max(tpot_ms) FILTER (WHERE role = 'winner'))
FROM plan_deployment
WHERE plan_id = ?1;

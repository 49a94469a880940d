-- title: How long users wait
-- order: 3
-- error: model
-- caption: Of all requests, the share that waits no longer. First token: from arrival until the
--   prompt is read, queueing included. Each further token: the rest of the answer over its tokens.
--   Gaps: between two tokens of a running sequence; steps that also read chunks of prompts make
--   the long ones. Upright lines are targets. A late first token asks for more GPUs that read,
--   slow further tokens for smaller batches or chunks.
-- empty: No requests were simulated; moesim serve does it.
-- rows_min: 2
SELECT fraction,
       max(value_s) FILTER (WHERE measure = 'ttft') AS first_token_s,
       max(value_s) FILTER (WHERE measure = 'tpot') AS further_token_s,
       max(value_s) FILTER (WHERE measure = 'itl') AS gap_s,
       max(value_s) FILTER (WHERE measure = 'e2e') AS answer_s,
       (SELECT target_s FROM serving_latency WHERE run_id = ?1 AND measure = 'ttft')
           AS first_token_target_s,
       (SELECT target_s FROM serving_latency WHERE run_id = ?1 AND measure = 'tpot')
           AS further_token_target_s
FROM serving_curve
WHERE run_id = ?1
GROUP BY fraction
ORDER BY fraction;

-- finding
SELECT printf('Half of the first tokens come within %.3g %s, 99 of 100 within %.3g %s; a further token takes %.3g ms, and 99 of 100 answers are below %.3g ms.',
              first.p50_s * scale, unit, first.p99_s * scale, unit,
              further.p50_s * 1e3, further.p99_s * 1e3)
FROM (SELECT *, CASE WHEN p99_s < 1 THEN 1e3 ELSE 1.0 END AS scale,
             CASE WHEN p99_s < 1 THEN 'ms' ELSE 's' END AS unit
      FROM serving_latency) AS first
JOIN serving_latency AS further USING (run_id)
WHERE run_id = ?1 AND first.measure = 'ttft' AND further.measure = 'tpot';

-- title: Who waits and who is served
-- order: 4
-- caption: Requests over time, means of each stretch: waiting for a place in a batch, and running,
--   of all pools. A queue that grows for as long as requests come says that more arrive than the
--   GPUs can serve; in a closed loop, where the next comes when one is answered, none does.
-- empty: No requests were simulated; moesim serve does it.
SELECT begin_s, end_s, sum(waiting) AS waiting, sum(running) AS running,
       sum(arrivals) / (end_s - begin_s) AS arrivals_per_s
FROM serving_window
WHERE run_id = ?1 AND end_s > begin_s
GROUP BY window
ORDER BY window;

-- finding
SELECT CASE
         WHEN concurrency > 0
           THEN printf('%d requests are outstanding until the last have come; of them %.1f wait, on average, and %.1f a second come.', concurrency, waiting.mean, waiting.rate)
         WHEN waiting.most > 10 AND 2 * waiting.at_end > waiting.most
           THEN printf('The queue reaches %.0f requests and is still long when the last come: more arrive than can be served.', waiting.most)
         ELSE printf('At most %.1f requests wait in a stretch, %.1f on average.', waiting.most, waiting.mean)
       END
FROM (SELECT max(waiting) AS most,
             sum(waiting * (end_s - begin_s)) / sum(end_s - begin_s) AS mean,
             sum(arrivals) / sum(end_s - begin_s) AS rate,
             max(waiting) FILTER (WHERE window = last) AS at_end,
             coalesce((SELECT value FROM serving_total WHERE run_id = ?1 AND name = 'concurrency'), 0) AS concurrency
      FROM (SELECT window, sum(waiting) AS waiting, sum(arrivals) AS arrivals, begin_s, end_s,
                   (SELECT max(window) FROM serving_window WHERE run_id = ?1 AND arrivals > 0) AS last
            FROM serving_window WHERE run_id = ?1 AND end_s > begin_s GROUP BY window)) AS waiting
WHERE waiting.most IS NOT NULL;

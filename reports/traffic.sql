-- title: Who sends to whom
-- order: 90
-- rows_min: 2
-- hover: src_cell dst_cell
-- caption: Bytes that dispatch sent from each source (row) to each destination (column) over the
--   whole run; above 256 ranks a cell stands for a group of them. A bright column is a rank that
--   holds hot experts; bright blocks off the diagonal cross nodes, where locality-aware dispatch or
--   a placement by node saves most. Layers are summed, so hot ranks of single layers even out here.
-- empty: One rank alone sends nothing.
SELECT src_cell, dst_cell, bytes, ranks_per_cell
FROM traffic
WHERE run_id = ?1 AND (SELECT sum(bytes) FROM traffic WHERE run_id = ?1) > 0
ORDER BY src_cell, dst_cell;

-- finding
SELECT printf('%s %d receives most: %.2f times the mean.',
              CASE WHEN ranks_per_cell > 1 THEN 'Group' ELSE 'Rank' END, dst_cell,
              sum(bytes) * 1.0 / (SELECT sum(bytes) * 1.0 / count(DISTINCT dst_cell)
                                  FROM traffic WHERE run_id = ?1))
FROM traffic
WHERE run_id = ?1
GROUP BY dst_cell
ORDER BY sum(bytes) DESC, dst_cell
LIMIT 1;

-- Which incidents were judged by a near match: what the bound on those is made from. Both
-- expressions are those of sql_briefs.near_cases.
CREATE INDEX judgements_near ON judgements (json_extract(document, '$.gate.bound.embedder'), seq)
    WHERE json_extract(document, '$.matches[0].found') = 'near';

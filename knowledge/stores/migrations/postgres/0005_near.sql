-- Which incidents were judged by a near match: what the bound on those is made from. Both
-- expressions are those of sql_briefs.near_cases.
CREATE INDEX judgements_near ON judgements (
    (regexp_replace(document, '\\{2}|\\u(0000|d[89a-f]..)', '', 'g')::json
        #>> '{gate,bound,embedder}'),
    seq
) WHERE regexp_replace(document, '\\{2}|\\u(0000|d[89a-f]..)', '', 'g')::json
        #>> '{matches,0,found}' = 'near';

-- All that is kept of a conversation, in one order: its row, turns, jobs, settled messages, what is held, deliveries. From
-- behind (:section, :key) on, at most so many records, and bytes unless the first has more.
with kept as (
    select 0 as section, '' as key, json_build_object(
        'kind', 'conversation', 'bot_id', bot_id, 'handed_off', handed_off,
        'created_at', created_at, 'updated_at', updated_at) as record
    from conversations where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 1, lpad((position + 1000000000)::text, 19, '0'), json_build_object(
        'kind', 'turn', 'role', role, 'content', content, 'message_id', message_id, 'job_id', job_id,
        'created_at', created_at)
    from turns where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 2, job_id::text, json_build_object(
        'kind', 'job', 'job_id', job_id, 'bot_id', bot_id, 'status', status, 'message_ids', message_ids,
        'restarts', restarts, 'attempts', attempts, 'reply', reply, 'error_code', error_code,
        'error_message', error_message, 'error_notice', error_notice, 'input_tokens', input_tokens,
        'output_tokens', output_tokens, 'correlation_id', correlation_id, 'superseded_by', superseded_by,
        'created_at', created_at, 'started_at', started_at, 'finished_at', finished_at)
    from jobs where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 3, message_id, json_build_object(
        'kind', 'settled', 'message_id', message_id, 'job_id', job_id, 'how', settled.kind, 'settled_at', settled_at)
    from settled where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 4, lpad(number::text, 19, '0'), json_build_object(
        'kind', 'held', 'message_id', message_id, 'content', content, 'aliases', aliases,
        'context', cast(context as json), 'resources', cast(resources as json), 'job_id', job_id,
        'answered_by', answered_by, 'held_at', held_at)
    from held where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 5, lpad(sequence::text, 19, '0'), json_build_object(
        'kind', 'delivery', 'webhook_id', webhook_id, 'job_id', job_id, 'message_ids', message_ids, 'status', status,
        'attempts', attempts, 'last_error', last_error, 'created_at', created_at, 'delivered_at', delivered_at)
    from outbox where platform_id = :platform_id and conversation_id = :conversation_id
), following as (
    select section, key, record,
           row_number() over page as number,
           sum(octet_length(cast(record as text))) over page as size
    from kept
    where (section, key collate "C") > (cast(:section as integer), :key collate "C")
    window page as (order by section, key collate "C")
)
select section, key, record from following
where number = 1 or (number <= cast(:most as integer) and size <= cast(:most_bytes as bigint))
order by section, key collate "C"

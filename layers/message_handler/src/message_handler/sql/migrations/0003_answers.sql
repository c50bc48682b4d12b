-- What an answer cost, what a patient is told of a failure, and the id that runs through logs, provider and webhook.
alter table jobs
    add column error_notice   text,
    add column input_tokens   bigint,
    add column output_tokens  bigint,
    add column correlation_id text not null default '';

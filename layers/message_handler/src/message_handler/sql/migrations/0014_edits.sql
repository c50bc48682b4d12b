-- A message that comes again under its id with other words is an edit (domain/edits.py). A settled message under the
-- platform's id has the digest of its newest version's words, and when that version was accepted (Unix seconds). Rows from
-- before this migration have neither. A message with the id of such a row is a duplicate, even with other words.
alter table settled
    add column words       text,
    add column accepted_at float8;

-- A turn has the newest words. `earlier` is a list of the texts that they replaced, oldest first. A turn that its patient has
-- taken back stays, but no context has it.
alter table turns
    add column edited_at timestamptz,
    add column earlier   jsonb,
    add column unsent_at timestamptz;

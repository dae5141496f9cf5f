-- Every public function reads the clock once, here, and hands it inward as p_now.
-- Tests replace this function in their own database; a catalogue test pins the shipped body.
create or replace function sisyphus._clock()
returns timestamptz
language sql
volatile
parallel safe
begin atomic
    select pg_catalog.clock_timestamp();
end;
comment on function sisyphus._clock() is 'The only clock: the time of the database, read once a call';

-- Reading one-row settings through a function keeps callers to one name; it inlines.
create or replace function sisyphus._setting()
returns sisyphus.setting
language sql
stable
parallel safe
begin atomic
    select s from sisyphus.setting s;
end;
comment on function sisyphus._setting() is 'The settings as one row';

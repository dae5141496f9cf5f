-- How a guardian's facts become a state and a reason. Small SQL bodies, so that they inline into finish_job().

create or replace function sisyphus._end_state(p_ended_by text, p_exit_code integer, p_success integer[])
returns text
language sql
immutable
parallel safe
begin atomic
    select case p_ended_by
        when 'timeout' then 'timed_out'
        when 'terminate' then 'terminated'
        when 'policy' then 'refused'
        when 'spawn' then 'failed'
        when 'fence' then 'lost'
        when 'keeper' then 'lost'
        else case when p_exit_code = any(coalesce(p_success, '{0}')) then 'succeeded' else 'failed' end end;
end;
comment on function sisyphus._end_state(text, integer, integer[]) is
    'State of an ended attempt: from what ended it, else from its exit code';

create or replace function sisyphus._signal_name(p_signal integer)
returns text
language sql
immutable
parallel safe
begin atomic
    select coalesce(('{HUP,INT,QUIT,ILL,TRAP,ABRT,BUS,FPE,KILL,USR1,SEGV,USR2,PIPE,ALRM,TERM}'::text[])[p_signal],
                    p_signal::text);
end;
comment on function sisyphus._signal_name(integer) is 'Name of a signal on Linux, without SIG';

create or replace function sisyphus._end_reason(
    p_state text, p_exit_code integer, p_signal integer, p_reason text, p_max_runtime interval)
returns text
language sql
immutable
parallel safe
begin atomic
    select case
        when p_state = 'timed_out' then
            'ran longer than max_runtime' || coalesce(' (' || sisyphus._duration_text(p_max_runtime) || ')', '')
        when p_reason is not null then p_reason
        when p_exit_code is not null then 'exit code ' || p_exit_code::text
        when p_signal is not null then 'killed by signal ' || sisyphus._signal_name(p_signal)
        else p_state end;
end;
comment on function sisyphus._end_reason(text, integer, integer, text, interval) is 'Why an attempt ended so, for a person';

create or replace function sisyphus._reason_without_names(p_state text, p_exit_code integer, p_signal integer, p_reason text)
returns text
language sql
immutable
parallel safe
begin atomic
    select case
        when p_state not in ('failed', 'refused') or p_exit_code is not null or p_signal is not null then p_reason
        else pg_catalog.regexp_replace(p_reason, '".*"', '"..."') end;
end;
comment on function sisyphus._reason_without_names(text, integer, integer, text) is
    'Reason of an attempt for who may not see its command: what could not be started or was refused names its program, directory or variables';

create or replace function sisyphus._retry_after(
    p_delay interval, p_backoff double precision, p_max_delay interval, p_attempt integer)
returns interval
language sql
immutable
parallel safe
begin atomic
    -- In seconds, capped before an interval is made of them; the exponent is bounded: a thousandth retry must not overflow.
    select pg_catalog.make_interval(secs => least(
        extract(epoch from p_max_delay)::double precision,
        extract(epoch from p_delay)::double precision * least(pg_catalog.power(p_backoff, least(p_attempt - 1, 60)), 1e6)));
end;
comment on function sisyphus._retry_after(interval, double precision, interval, integer) is
    'Wait after a failed attempt: delay * backoff^(attempt - 1), capped';

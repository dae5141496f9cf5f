-- One line an expression: median and longest call in microseconds, compiled and with parsing. :starts is a file of
-- epoch seconds; each is timed three times and its fastest time counts.
\set QUIET on
create temp table start (at float8);
insert into start select line::float8 from regexp_split_to_table(btrim(pg_read_file(:'starts'), E'\n'), '\n') line;

create function pg_temp.microseconds(p_expression text, p_compiled bigint[], p_after timestamptz)
returns float8 language plpgsql as $$
declare
    v_began timestamptz;
    v_fire timestamptz;
    v_fastest float8 := 'infinity';
begin
    for v_round in 1 .. 3 loop
        v_began := clock_timestamp();
        if p_compiled is null then
            v_fire := sisyphus.next_fire(p_expression, 'Europe/Amsterdam', p_after);
        else
            v_fire := sisyphus._next_fire(p_compiled, 'Europe/Amsterdam', p_after, 'epoch');
        end if;
        v_fastest := least(v_fastest, date_part('epoch', clock_timestamp() - v_began) * 1e6);
    end loop;
    return v_fastest;
end
$$;

-- Apart from each other: plans are made anew when the search path changes, which next_fire sets and a tick does.
create temp table result as
select e.expression, percentile_disc(0.5) within group (order by t.us) as compiled, max(t.us) as compiled_longest
  from unnest(string_to_array(:'expressions', ',')) e (expression), sisyphus._compile_schedule(e.expression, 'UTC') c,
       start s, lateral (select pg_temp.microseconds(e.expression, c, to_timestamp(s.at))) t (us)
 group by e.expression;

select r.*, percentile_disc(0.5) within group (order by t.us), max(t.us)
  from result r, start s, lateral (select pg_temp.microseconds(r.expression, null, to_timestamp(s.at))) t (us)
 group by r.expression, r.compiled, r.compiled_longest;

select f.host, f.state, f.problem from sisyphus.fleet f where f.host = any ($1::text[]) order by f.host

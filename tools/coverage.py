#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/COVERAGE.md: what of containerd 2.3 is there, read off the tables in the sources.

    tools/coverage.py > docs/COVERAGE.md
    tools/coverage.py --check       fails when docs/COVERAGE.md is stale, or a source contradicts itself

What counts as done:
  RPC       proto/ names it, a table of src/services or src/shim has a handler, and the daemon or shim registers that table
  plugin    src/daemon/plugin_table.c gives it an init function
  ctr       tools/ctr-commands.txt names it, src/ctr has the command with all the flags
  key       src/daemon/{config_fields,plugin_config}.c say it is honoured, its plugin has an init function, and code reads it

Files that meson does not build do not count. What a table cannot tell stands in tools/coverage-notes.txt.
"""
import collections
import difflib
import functools
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOC = ROOT / 'docs/COVERAGE.md'
DONE, PARTIAL, NOT_YET = 'done', 'partial', 'not yet'

problems = []


def die(text):
    sys.exit(f'coverage: {text}')


# ---- C, as far as tables need it ----

def split_top(text):
    """Splits at commas that are in no bracket and no string."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        c = text[i]
        if c == '"' or c == "'":
            i += 1
            while i < len(text) and text[i] != c:
                i += 2 if text[i] == '\\' else 1
        elif c in '({[':
            depth += 1
        elif c in ')}]':
            depth -= 1
        elif c == ',' and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
        i += 1
    parts.append(text[start:].strip())
    return [p for p in parts if p]


def braced(text, at):
    """The inside of the bracket that opens at @at, and where it ends."""
    close, depth, i = {'{': '}', '(': ')'}[text[at]], 0, at
    while i < len(text):
        c = text[i]
        if c == '"' or c == "'":
            i += 1
            while text[i] != c:
                i += 2 if text[i] == '\\' else 1
        elif c == text[at]:
            depth += 1
        elif c == close:
            depth -= 1
            if depth == 0:
                return text[at + 1:i], i + 1
        i += 1
    die(f'no end of {text[at:at + 60]!r}')


def string(text):
    """The value of adjacent string literals; None when there is something else."""
    if not re.fullmatch(r'(\s*"(?:[^"\\]|\\.)*")+\s*', text):
        return None
    return ''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', text))


COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)+\')|/\*.*?\*/|//[^\n]*', re.S)


@functools.cache
def source(path):
    """A file without comments, and with those of its own macros that make tables expanded."""
    text = COMMENT.sub(lambda m: m.group(1) or ' ', (ROOT / path).read_text())
    for name, args, body in re.findall(r'^#define (\w+)\(([^)]*)\)((?:.*\\\n)*.*)$', text, re.M):
        if not re.search(r'struct (ctr_command|ctr_flag|rpc_method)\b', body):
            continue
        params = [a.strip() for a in args.split(',')]
        body = body.replace('\\\n', '\n')

        def expand(m, params=params, body=body):
            values = dict(zip(params, split_top(m.group(1))))
            return re.sub(r'\b(' + '|'.join(map(re.escape, params)) + r')\b', lambda k: values.get(k.group(0), ''), body) + ';'
        text = re.sub(r'^\s*' + name + r'\(([^\n]*)\);', expand, text, flags=re.M)
    return text


def built(folder):
    """The C files of a folder that its meson.build names, in order."""
    text = (ROOT / folder / 'meson.build').read_text()
    text = re.sub(r'#[^\n]*', '', text)
    names = dict.fromkeys(re.findall(r"'([\w/]+\.c)'", text))
    return [f'{folder}/{n}' for n in names if (ROOT / folder / n).exists()]


def arrays(text, struct):
    """All `struct X name[] = {...}` of a text: name -> inside."""
    out = {}
    for m in re.finditer(r'struct ' + struct + r'\s+(\w+)\s*\[[^\]]*\]\s*=\s*\{', text):
        out[m.group(1)] = braced(text, m.end() - 1)[0]
    return out


def objects(text, struct):
    out = {}
    for m in re.finditer(r'struct ' + struct + r'\s+(\w+)\s*=\s*\{', text):
        out[m.group(1)] = braced(text, m.end() - 1)[0]
    return out


def members(inside):
    """`.name = value` pairs of an initializer."""
    out = {}
    for part in split_top(inside):
        m = re.match(r'\.(\w+)\s*=\s*(.*)$', part, re.S)
        if m:
            out[m.group(1)] = m.group(2).strip()
    return out


def everything(*folders):
    return '\n'.join(source(f) for d in folders for f in built(d))


# ---- notes ----

Note = collections.namedtuple('Note', 'status text')


class Notes:
    """tools/coverage-notes.txt: `kind | name | status | note`."""

    def __init__(self):
        self.notes, self.missing, self.used = {}, [], set()
        for n, line in enumerate((ROOT / 'tools/coverage-notes.txt').read_text().splitlines(), 1):
            if not line.strip() or line.startswith('#'):
                continue
            parts = [p.strip() for p in line.split('|')]
            if len(parts) != 4 or parts[2] not in (DONE, PARTIAL, NOT_YET):
                die(f'coverage-notes.txt:{n}: want `kind | name | done, partial or not yet | note`')
            if parts[0] == 'area':
                self.missing.append((parts[1], Note(parts[2], parts[3])))
            else:
                self.notes[parts[0], parts[1]] = Note(parts[2], parts[3])

    def apply(self, kind, name, status, text=''):
        """A note may only lower what the tables say: one that praises is out of date."""
        note = self.notes.get((kind, name))
        if not note:
            return Note(status, text)
        self.used.add((kind, name))
        order = [NOT_YET, PARTIAL, DONE]
        if order.index(note.status) > order.index(status):
            problems.append(f'coverage-notes.txt: {kind} {name} is said to be {note.status}, but it is {status}')
            return Note(status, text)
        return Note(note.status, '; '.join(t for t in (text, note.text) if t))

    def check(self):
        for key in self.notes.keys() - self.used:
            problems.append(f'coverage-notes.txt: there is no {key[0]} {key[1]}')


# ---- RPCs ----

# Services that others have and the daemon calls.
CALLED = {'nri.pkg.api.v1alpha1.Plugin', 'nri.pkg.api.v1alpha1.HostFunctions'}


def rpc_contracts():
    """[(file, service, [method])] of proto/."""
    out = []
    for path in sorted((ROOT / 'proto').rglob('*.proto')):
        text = COMMENT.sub(' ', path.read_text())
        package = re.search(r'^\s*package\s+([\w.]+)\s*;', text, re.M)
        for m in re.finditer(r'\bservice\s+(\w+)\s*\{', text):
            inside = braced(text, m.end() - 1)[0]
            if f'{package.group(1)}.{m.group(1)}' in CALLED:
                continue
            out.append((f'{package.group(1)}.{m.group(1)}', re.findall(r'\brpc\s+(\w+)', inside)))
    return out


def c_descriptor(service):
    """protobuf-c's name of a service's descriptor."""
    package, _, name = service.rpartition('.')
    name = re.sub(r'(?<=[a-z0-9])([A-Z])', r'_\1', name).lower()
    return package.replace('.', '__').lower() + f'__{name}__descriptor'


def rpc_handlers():
    """(descriptor or service name) -> set of methods with a handler."""
    out = collections.defaultdict(set)
    daemon = everything('src/daemon')
    pending = set(re.findall(r'^PENDING\(\w+, "(\w+)"\)', everything('src/cri'), re.M))
    for path in built('src/services') + built('src/shim') + built('src/cri') + built('src/nri'):
        text = source(path)
        macros = dict(re.findall(r'^#define (\w+)\(x\)\s+(\S+##x##\S+)\s*$', text, re.M))
        tables = {name: {string(split_top(part.strip('{} \n\t'))[0]) for part in split_top(inside)}
                  for name, inside in arrays(text, 'rpc_method').items()}
        uses = []
        for m in re.finditer(r'^SERVICE\((\w+),\s*&(\w+)(?:\((\w+)\))?,\s*(\w+)\)', text, re.M):
            name, desc, arg, table = m.groups()
            if arg:
                desc = macros[desc].replace('##x##', arg)
            if re.search(rf'\bservice_{name}\b|\bON_WIRE(?:_WITH)?\(\w+,\s*{name}\b', daemon):
                uses.append((desc, table))
        renamed = dict(re.findall(r'->(\w+)\.name\s*=\s*"([\w.]+)"', text))
        for desc, table in re.findall(r'\(struct rpc_service\)\s*\{\s*(?:\.desc\s*=\s*)?&([\w>-]+),\s*(?:\.methods\s*=\s*)?(\w+)', text):
            member = desc.rpartition('>')[2]
            uses.append((renamed.get(member, member), table))
        for desc, table in uses:
            out[desc] |= tables[table] - (pending if '/cri/' in path else set())
    return out


def rpc_rows(notes):
    handlers = rpc_handlers()
    rows = []
    for service, methods in rpc_contracts():
        have = handlers.get(service) or handlers.get(c_descriptor(service)) or set()
        for method in sorted(have - set(methods)):
            problems.append(f'handler of {service}/{method}: proto/ does not know it')
        for method in methods:
            rows.append((service, method, notes.apply('rpc', f'{service}/{method}', DONE if method in have else NOT_YET)))
    return rows


# ---- plugins ----

def plugin_table():
    """[(uri, has init, name of its fields or None)]"""
    inside = arrays(source('src/daemon/plugin_table.c'), 'plugin')['plugin_table']
    out = []
    for part in split_top(inside):
        p = members(part[1:-1])
        kind = re.fullmatch(r'T\(("[^"]*")\)', p['type'])
        out.append(('io.containerd.' + string(kind.group(1)) + '.' + string(p['id']), p.get('init', 'NULL') != 'NULL', p.get('config')))
    return out


def plugin_rows(notes):
    return [(uri, notes.apply('plugin', uri, DONE if init else NOT_YET)) for uri, init, _ in plugin_table()]


# ---- configuration ----

FIELD = re.compile(r'^(CFG_\w+)\((.*)\)$', re.S)


def fields(tables, name, prefix, honoured):
    """Leaves below a table of fields: [(path, honoured)]."""
    out = []
    for part in split_top(tables[name]):
        m = FIELD.match(part)
        if not m or m.group(1) == 'CFG_OLD':
            continue
        macro, args = m.group(1), split_top(m.group(2))
        key, kind = string(args[0]), args[1]
        ok = honoured and 'UNHONOURED' not in macro
        shown = f"'{key}'" if '.' in key else key
        path = f'{prefix}.{shown}' if prefix else shown
        if macro.startswith('CFG_SUB'):
            if kind == 'CFG_MAP':
                path += '.NAME'
            elif kind == 'CFG_TABLES':
                path += '[]'
            out += fields(tables, args[3], path, ok)
        elif kind != 'CFG_ANY' or key != 'plugins':
            out.append((path, ok))
    return out


READ = re.compile(r'(?:(?:cfg|config_get|config|toml)_\w+|\bstrings)\((?:[^()]|\([^()]*\))*?"([^"]+)"')


MIGRATION = {'version'}  # what config_migrate.c reads


def config_rows(notes):
    root = arrays(source('src/daemon/config_fields.c'), 'config_field')
    plugins = arrays(source('src/daemon/plugin_config.c'), 'config_field')
    code = '\n'.join(source(f) for d in ('base', 'core', 'plugins', 'services', 'daemon') for f in built(f'src/{d}')
                     if not f.endswith(('/plugin_config.c', '/config_fields.c', '/config_migrate.c')))
    read = set(READ.findall(code))
    rows = []

    def add(table, path, ok, init=True):
        if ok and init:
            plain = path.replace("'", '')
            names = {plain, plain.removeprefix('timeouts.'), re.split(r'[.\[]', plain.replace('.NAME', '').removesuffix('[]'))[-1]}
            if not names & (read | MIGRATION):
                problems.append(f'{table} {path}: said to be honoured, but nobody reads it')
                ok = False
        name = f'{table}.{path}' if table else path
        rows.append((table, path, notes.apply('config', name, DONE if ok and init else NOT_YET)))

    for path, ok in fields(root, 'config_fields', '', True):
        add('', path, ok)
    for uri, init, name in plugin_table():
        for path, ok in fields(plugins, name, '', True) if name else []:
            add(f"plugins.'{uri}'", path, ok, init)
    return rows


# ---- ctr ----

Flag = collections.namedtuple('Flag', 'name alias value many')
Command = collections.namedtuple('Command', 'aliases flags works')


def expected_flag(word):
    m = re.fullmatch(r'-{1,2}([\w-]+?)(?:,-(\w))?(=?)(\.\.\.)?', word)
    if not m:
        die(f'ctr-commands.txt: {word}')
    return Flag(m.group(1), m.group(2) or '', bool(m.group(3)), bool(m.group(4)))


def expected_commands():
    groups, out = {}, {}
    for line in (ROOT / 'tools/ctr-commands.txt').read_text().splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        head, _, rest = line.partition(':')
        found = []
        for word in rest.split():
            found += groups[word] if word[0] == '@' else [expected_flag(word)]
        m = re.fullmatch(r'([\w -]+?)(?: \(([^)]*)\))?', head)
        if head[0] == '@':
            groups[head] = found
        elif not m:
            die(f'ctr-commands.txt: {line}')
        else:
            out[m.group(1)] = Command([a.strip() for a in (m.group(2) or '').split(',') if a.strip()], found, True)
    return out


def table_flag(part):
    args = split_top(part.strip()[1:-1])
    if not args or string(args[0]) is None or (string(args[3]) or '').startswith('not implemented'):
        return None
    alias = re.fullmatch(r"'(\w)'", args[1])
    return Flag(string(args[0]), alias.group(1) if alias else '', args[2] != 'CTR_BOOL', args[2] == 'CTR_STRINGS')


def refuses(name):
    """A command whose function does nothing but say that it is not implemented."""
    for path in built('src/ctr'):
        m = re.search(r'^(?:static )?int ' + name + r'\(struct ctr \*\w+, struct err \*\w+\)\s*\{', source(path), re.M)
        if m:
            body = braced(source(path), m.end() - 1)[0]
            return bool(re.match(r'\s*return err_set(_raw)?\(err, ERR_UNIMPLEMENTED\b', body))
    return False


def found_commands():
    """'images pull' -> Command, from the tables of src/ctr; 'ctr' is the root."""
    files = {path: source(path) for path in built('src/ctr')}
    shared_flags, shared_commands = {}, {}
    local = {}
    for path, text in files.items():
        flags = {n: [f for f in map(table_flag, split_top(i)) if f] for n, i in arrays(text, 'ctr_flag').items()}
        commands = {n: (path, members(i)) for n, i in objects(text, 'ctr_command').items()}
        local[path] = flags, commands
        static = set(re.findall(r'^static const struct ctr_(?:flag|command)\s+(\w+)', text, re.M))
        shared_flags.update((n, f) for n, f in flags.items() if n not in static)
        shared_commands.update((n, c) for n, c in commands.items() if n not in static)
    # flags that the code refuses when they are given
    refused = set()
    for text in files.values():
        for inside in re.findall(r'\bmissing\[\]\s*=\s*\{([^}]*)\}', text):
            refused |= set(re.findall(r'"([^"]+)"', inside))
    out = {}

    def walk(path, m, name):
        flags, commands = local[path]
        run = m.get('run', 'NULL')
        own = []
        for group in re.findall(r'\w+', m.get('flags', '').partition('(')[2]):
            if group not in flags and group not in shared_flags:
                die(f'{path}: flags {group} of {name}')
            own += flags[group] if group in flags else shared_flags[group]
        own = [f for f in own if f.name not in refused]
        out[name or 'ctr'] = Command(re.findall(r'"([^"]+)"', m.get('aliases', '')), own, run == 'NULL' or not refuses(run))
        for sub in re.findall(r'&(\w+)', m.get('subcommands', '')):
            if sub not in commands and sub not in shared_commands:
                die(f'{path}: command {sub} of {name or "ctr"}')
            p, s = commands.get(sub) or shared_commands[sub]
            walk(p, s, f'{name} {string(s["name"])}'.strip())
    path, root = shared_commands['ctr_root']
    walk(path, root, '')
    return out


def show_flag(f):
    return f'`--{f.name}`' if len(f.name) > 1 else f'`-{f.name}`'


def compare(name, want, have):
    if not have or not have.works:
        return NOT_YET, ''
    flags = {f.name: f for f in have.flags}
    lacks = [show_flag(f) for f in want.flags if f.name not in flags]
    differs = [show_flag(f) for f in want.flags if f.name in flags and flags[f.name] != f]
    alias = [f'`{a}`' for a in want.aliases if a not in have.aliases]
    text = [f'{what} {", ".join(v)}' for what, v in (('without', lacks), ('other form of', differs), ('no alias', alias)) if v]
    return (PARTIAL if text else DONE), '; '.join(text)


def ctr_rows(notes):
    want, have = expected_commands(), found_commands()
    rows = []
    for name, command in want.items():
        group = any(n.startswith(name + ' ') for n in want)
        if name != 'ctr' and group and not command.flags and have.get(name):
            continue  # a group says nothing that its commands do not say
        status, text = compare(name, command, have.get(name))
        rows.append((name, notes.apply('ctr', name, status, text)))
    for name in have.keys() - want.keys():
        problems.append(f'`ctr {name}` is not in tools/ctr-commands.txt')
    return rows


# ---- the page ----

def count(notes):
    c = collections.Counter(n.status for n in notes)
    return f'{c[DONE]} | {c[PARTIAL]} | {c[NOT_YET]} | {sum(c.values())}'


def table(out, head, rows):
    out += ['| ' + ' | '.join(head) + ' |', '|' + ' --- |' * len(head)]
    out += ['| ' + ' | '.join(r) + ' |' for r in rows]
    out.append('')


def short_or_table(out, what, rows):
    """@rows [(name, note)]: one line when they are all alike."""
    if len({n for _, n in rows}) == 1 and not rows[0][1].text:
        out += [f'{rows[0][1].status}: {", ".join(f"`{name}`" for name, _ in rows)}', '']
    else:
        table(out, [what, 'state', 'note'], [[f'`{name}`', n.status, n.text] for name, n in rows])


def page():
    notes = Notes()
    rpcs, plugins, commands, keys = rpc_rows(notes), plugin_rows(notes), ctr_rows(notes), config_rows(notes)
    notes.check()
    out = ['# Coverage', '',
           'What of containerd 2.3 is there. Written by `tools/coverage.py` from the tables in the sources and from',
           '`tools/coverage-notes.txt`; do not edit by hand.', '',
           '*done*: as containerd does it. *partial*: see the note. *not yet*: the call answers Unimplemented, the plugin is skipped,',
           'the command or flag is refused, the key has no effect (the daemon warns when it is set).', '']
    table(out, ['', 'done', 'partial', 'not yet', 'all'],
          [[what, *count(n).split(' | ')] for what, n in (
              ('RPCs', [r[2] for r in rpcs]), ('plugins', [r[1] for r in plugins]),
              ('`ctr` commands', [r[1] for r in commands]), ('configuration keys', [r[2] for r in keys]))])
    if notes.missing:
        out += ['## Areas', '', 'What cuts across the tables below.', '']
        table(out, ['area', 'state', 'note'], [[name, n.status, n.text] for name, n in notes.missing])
    out += ['## RPCs', '']
    for service in dict.fromkeys(r[0] for r in rpcs):
        out += [f'### {service}', '']
        short_or_table(out, 'method', [(m, n) for s, m, n in rpcs if s == service])
    out += ['## Plugins', '']
    table(out, ['plugin', 'state', 'note'], [[f'`{u}`', n.status, n.text] for u, n in plugins])
    out += ['## ctr', '', 'Flags are counted with the command that has them; the global ones stand under `ctr`.', '']
    table(out, ['command', 'state', 'note'], [[f'`{n}`', s.status, s.text] for n, s in commands])
    out += ['## Configuration', '']
    for name in dict.fromkeys(r[0] for r in keys):
        out += [f'### {name or "outside of plugins"}', '']
        short_or_table(out, 'key', [(p, n) for t, p, n in keys if t == name])
    return '\n'.join(out).rstrip() + '\n'


def main():
    text = page()
    for p in problems:
        print(f'coverage: {p}', file=sys.stderr)
    if sys.argv[1:] == ['--check']:
        old = DOC.read_text() if DOC.exists() else ''
        if old != text:
            sys.stderr.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), 'docs/COVERAGE.md', 'as it should be', n=0))
            print('coverage: docs/COVERAGE.md is stale: tools/coverage.py > docs/COVERAGE.md', file=sys.stderr)
        return 1 if problems or old != text else 0
    if sys.argv[1:]:
        print('usage: coverage.py [--check]', file=sys.stderr)
        return 2
    sys.stdout.write(text)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())

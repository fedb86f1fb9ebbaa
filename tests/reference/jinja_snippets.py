#!/usr/bin/env python3
"""Writes formats/tests/data/chat/snippets.json: what jinja2, set up as transformers does it, gives for short
templates of our own. Each uses what public chat templates use, or what Python and its Jinja do in a way of their own.

    pip install jinja2==3.1.6
    python tests/reference/jinja_snippets.py
"""

import json
import pathlib

import jinja2

from chat_templates import compile_template

OUT = pathlib.Path(__file__).resolve().parents[2] / "formats/tests/data/chat/snippets.json"

MESSAGES = [
    {"role": "system", "content": "Be brief. Be kind."},
    {"role": "user", "content": "  Name a metal. Or two.\n"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nIron.", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": {"port": "Emden", "days": 2, "deep": True, "none": None, "x": 1.5}}},
        {"id": "c2", "type": "function", "function": {"name": "wind", "arguments": {}}}]},
    {"role": "tool", "content": "2.9", "tool_call_id": "c1", "name": "tide"},
    {"role": "user", "content": [{"type": "text", "text": "Grüße, 你好 🦙"}, {"type": "image"}]},
]
TOOLS = [{"type": "function", "function": {"name": "tide", "description": "Height in \"metres\"\n<b>", "parameters": {
    "type": "object", "properties": {"port": {"type": "string", "enum": ["Emden", "Husum"]}, "days": {"type": ["integer", "null"], "default": 1}},
    "required": ["port"]}}}]
VARIABLES = {
    "messages": MESSAGES, "tools": TOOLS, "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
    "numbers": [3, 1, 2, 10, -4], "words": ["pear", "Apple", "fig", "apple"], "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}],
    "d": {"b": 2, "a": 1, "items": "own", "C": [1, 2]}, "empty": [], "nothing": None, "text": "The quick brown fox", "umlaut": "Äpfel ß ÜBER",
    "f": 0.1, "big": 12345678901234567890, "yes": True, "no": False, "lines": "a\nb\n\n c\n", "date_string": "26 Jul 2024",
}

SNIPPETS = []


def add(*snippets):
    SNIPPETS.extend(snippets)


def each(pattern, *values):
    add(*(pattern.replace("@", v) for v in values))


# White space of tags.
add(
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc",
    "a {%- if yes -%} b {%- endif -%} c",
    "a\n{%+ if yes %}\n b\n{%+ endif %}c",
    "  {{ text }}  \n{# gone #}\n x",
    "{#- gone -#}  x",
    "a\n   {# gone #}   \nb",
    "{% raw %}{{ not this }}{% endraw %}",
    "a  {%- raw -%}  {% b %} {%- endraw -%}  c",
    "x\n\n",
    "x\r\ny\rz",
    "{{ 'a' -}}   b {{- 'c' }}",
    "{% if yes +%}\nx{% endif %}",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{{ '}}' }}{{ \"{%\" }}",
    "{%set x=1%}{{x}}",
    "\t{% if yes %}\tx\n\t{% endif %}\n",
    "{%- for m in messages %}\n  {{- m.role }}\n{%- endfor %}",
)
# Printing of values.
each("{{ @ }}", "mixed", "d", "nothing", "yes", "f", "big", "1e16", "1e-5", "1.0", "-0.0", "1e300 * 1e10", "(1,)", "()", "(1, 'a')", "[]", "{}", "{1: 2, 'x': none}",
     "'it\\'s'", "[\"it's\"]", "['\"']", "['it\\'s \"x\"']", "['a\\nb\\t\\\\']", "['\\x00\\x7f\\u200b\\xa0']", "['ü 你 🦙']", "missing", "[missing]", "range(3)", "range(1, 9, 2)", "d.items()", "d.keys()", "d.values()",
     "1_000", "0x1f + 0b11 + 0o7", "1.5e3", "'a' 'b'", "'\\u00e9\\x41\\101\\q'", "true, false", "None", "messages[0].content.missing")
# Arithmetic and comparison.
each("{{ @ }}", "7 // 2", "-7 // 2", "7 // -2", "-7 % 3", "7 % -3", "7 / 2", "6 / 2", "2 ** 10", "2 ** -1", "-2 ** 2", "7.5 // 2", "-7.5 % 2", "1 + 2 * 3 - 4", "(1 + 2) * 3", "10 % 4 * 2",
     "'ab' * 3", "3 * [1]", "[1] + [2]", "(1,) + (2,)", "true + 1", "1 == 1.0", "'1' == 1", "1 < 2 < 3", "1 < 2 > 5", "'a' < 'b'", "[1, 2] < [1, 3]", "none == none", "missing == missing2", "missing == none",
     "1 in [1, 2]", "'a' in 'cat'", "'x' not in d", "'b' in d", "2 in (1, 2)", "none in [none]", "not yes or yes", "not (yes and no)", "yes and 'x' or 'y'", "'' or 'y'", "0 or none", "1 and 0",
     "'a' ~ 1 ~ none ~ 1.5 ~ true", "'a' ~ missing", "1 if yes", "1 if no", "1 if no else 2", "'a' if no else 'b' if no else 'c'", "5 ~ 5 * 2", "1 + 1 ~ 2", "-3 | abs", "- 3 | abs", "(-3) | abs",
     "'a' + 1", "1 + 'a'", "1 < 'a'", "none + 1", "missing + 1", "missing.x", "missing['x']", "missing()", "1 / 0", "[] + (1,)", "{} < {}", "'x' in none", "1 in 'abc'", "big + 1", "1.5 + 2", "+5", "not not 1")
# Indices, slices, fields.
each("{{ @ }}", "text[0]", "text[-1]", "text[4:9]", "text[::-1]", "text[:-4]", "numbers[1:]", "numbers[::2]", "numbers[-2:]", "numbers[5]", "numbers[::-2]", "numbers[9:]", "umlaut[0]", "umlaut[:3]", "d['items']",
     "d.items is callable", "d.missing", "d['missing'] is defined", "d.C[1]", "messages[-1].content[0].text", "messages[0]['role']", "messages[1:][0].role", "range(10)[2:5]", "range(10)[-1]", "(1, 2, 3)[1:]", "'abc'[5] is defined",
     "d['a', 'b'] is defined", "numbers['a'] is defined", "numbers.0", "mixed[6].k", "messages.0.role", "text[none:3]", "d['get']('a')", "nothing.x is defined")
# Methods.
each("{{ text.@ }}", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "split()", "split(' ', 1)", "split(maxsplit=1)", "rsplit(' ', 1)", "rsplit(None, 1)", "split('o')", "partition(' ')", "rpartition(' ')", "partition('#')",
     "startswith('The')", "startswith(('x', 'The'))", "startswith('quick', 4)", "endswith('fox')", "find('q')", "find('zz')", "rfind('o')", "index('q')", "index('zz')", "count('o')", "count('')", "replace('o', '0')", "replace('o', '0', 1)",
     "strip('Tx')", "lstrip('The ')", "rstrip('xo')", "removeprefix('The ')", "removesuffix(' fox')", "center(25, '*')", "ljust(22)", "rjust(22, '.')", "zfill(22)", "join(['a', 'b'])", "isalpha()", "isupper()", "istitle()", "encode is defined", "find('o', 13)", "count('o', 0, 13)")
each("{{ @ }}", "'7'.zfill(3)", "'-7'.zfill(4)", "'a-b'.title()", "\"they're\".title()", "'ab' .center(5)", "'abc'.center(6)", "'x'.isdigit()", "'12'.isdigit()", "''.isdigit()", "' \\n'.isspace()", "'aB'.islower()", "'ab1'.isalnum()", "'a\\tb'.expandtabs(4)",
     "lines.splitlines()", "lines.splitlines(true)", "lines.split('\\n')", "'  a b  '.split(' ')", "'  a b  '.split()", "'  a b  c '.split(none, 1)", "umlaut.lower()", "umlaut.upper()", "umlaut.casefold()", "umlaut.title()", "', '.join(words)", "'-'.join('abc')", "','.join([1])",
     "'{} and {}'.format(1, 'a')", "'{1}{0}'.format('a', 'b')", "'{x:>5}|{y:<4}|{z:^5}'.format(x=1, y='a', z='b')", "'{:.2f} {:05d} {:,}'.format(3.14159, 42, 1234567)", "'{a[0]} {b.x}'.format(a=[7], b={'x': 1})", "'{:x} {:#b} {:e}'.format(255, 5, 12345.678)", "'{!r}'.format('a')", "'{{}}'.format()", "'{:>{w}}'.format('a', w=4)", "'{}'.format()",
     "words.index('fig')", "words.count('fig')", "words.index('kiwi')", "d.get('a')", "d.get('zz')", "d.get('zz', 5)", "d.keys() | list", "d.values() | list", "d.items() | list", "words.append('x')", "d.update({'x': 1})", "d.pop('a')", "(1, 2, 1).count(1)", "1.5.is_integer()", "'abc'.nosuch()", "'a,b;c'.replace(',', ';').split(';')")
# Formatting with %.
each("{{ @ }}", "'%s: %02d' % ('a', 7)", "'<%s>' % 'x'", "'%d%%' % 50", "'%5.1f|' % 3.14159", "'%-5s|' % 'ab'", "'%5s|' % 'ab'", "'%x %X %o' % (255, 255, 8)", "'%r' % 'a'", "'%s' % none", "'%s' % [1, 2]", "'%s %s' % 'a'", "'%d' % 'a'", "'%(a)s-%(b)03d' % d",
     "'%+d % d' % (5, 5)", "'%e' % 12345.678", "'%g %g %g' % (0.0001, 1e10, 100000)", "'%c%c' % ('a', 66)", "'%.3s|' % 'abcdef'", "'%s' % (1,)", "'%s' % 'a' ~ 'b'", "'%*d' % (5, 3)", "'%#x' % 255", "'x' % ()", "'x' % 1", "'%s' % d.a", "'%d' % 3.99", "'%i' % true", "'%.2f' % 2", "'%05.1f' % -2.5", "'%q' % 1")
# Filters.
each("{{ text | @ }}", "upper", "lower", "title", "capitalize", "length", "count", "wordcount", "first", "last", "reverse", "list", "trim", "center(30)", "replace('o', '0')", "replace('o', '0', 1)", "truncate(10)", "truncate(10, true)", "truncate(10, true, '>')", "truncate(100)", "default('x')", "string", "indent", "urlencode", "escape", "int", "int(7)", "float", "tojson", "join('.')", "batch(5) | list", "slice(3) | list", "nosuch", "trim('Tx')")
each("{{ @ }}", "lines | indent", "lines | indent(2, true)", "lines | indent(2, blank=true)", "lines | indent('> ')", "lines | indent(width=2, first=true)", "'  x '| trim", "'<a href=\"x\">&</a>' | e", "'<b>x</b>  y' | striptags", "words | sort", "words | sort(case_sensitive=true)", "words | sort(reverse=true)", "numbers | sort", "numbers | sort | join(', ')", "numbers | sum", "numbers | max", "numbers | min", "words | max", "empty | max is defined", "numbers | first", "empty | first is defined", "numbers | last",
     "numbers | reverse | list", "words | unique | list", "words | map('upper') | join(' ')", "messages | map(attribute='role') | join(',')", "messages | map(attribute='name', default='-') | list", "messages | selectattr('role', 'equalto', 'user') | list | length", "messages | rejectattr('role', 'in', ['user', 'tool']) | map(attribute='role') | list", "messages | selectattr('tool_calls') | list | length", "messages | selectattr('tool_calls', 'defined') | list | length", "messages | selectattr('role', '==', 'system') | first | tojson", "numbers | select('gt', 1) | list", "numbers | reject('odd') | list", "numbers | select | list", "mixed | select('string') | list",
     "messages | groupby('role') | map('first') | list", "d | dictsort", "d | dictsort(by='value') | length", "d | dictsort(reverse=true) | first", "d | items | list", "d | list", "d | length", "d | tojson", "d | tojson(indent=2)", "mixed | tojson", "tools | tojson", "tools | tojson(indent=4)", "tools[0] | tojson(separators=(',', ':'))", "d | tojson(sort_keys=true)", "'ü 你 🦙 \\x07' | tojson", "'ü🦙' | tojson(ensure_ascii=true)", "{1: 'a', none: 2, true: 3} | tojson", "(1, 2) | tojson", "1e16 | tojson", "none | tojson", "missing | tojson", "{} | tojson(indent=2)", "[] | tojson(indent=2)", "[[1, 2], {}] | tojson(indent=2)", "1.0 | tojson", "'a\\\"b\\\\\\n/' | tojson", "d | tojson(indent='\\t')",
     "missing | default('x')", "nothing | default('x')", "nothing | default('x', true)", "'' | d('x', true)", "missing | d", "missing | length", "nothing | length", "5 | length", "'7' | int + 1", "'7.9' | int", "'x' | int(3)", "'0x1f' | int(base=16)", "3.7 | int", "'3.5' | float", "3.567 | round(2)", "2.5 | round", "3.5 | round", "2.1 | round(method='ceil')", "7 | round", "1234.5 | round(-2)", "-3 | abs", "d | attr('a') is defined", "'%s-%s' | format('a', 'b')", "'%(x)s' | format(x=1)",
     "numbers | map('string') | join", "[1, 2, 3] | batch(2, 0) | list", "[1, 2, 3, 4, 5] | slice(2, 'x') | list", "words | join(', ', attribute='x') is string", "messages | map(attribute='content') | first | upper", "numbers | list is sequence", "numbers | map('abs') | sum", "[[1, 2], [3]] | sum(start=[])", "tools | map(attribute='function.name') | list", "messages | selectattr('role', 'ne', 'user') | map(attribute='role') | unique | list", "words | map('length') | list", "'a b c' | replace(' ', '_') | upper | list | length", "numbers | join", "[none, 1] | join('-')", "'abc' | batch(2) | map('join') | list", "5 | string | length", "words | map('replace', 'p', 'b') | list", "3 | random is defined and false", "messages | length > 2", "'a' | upper ~ 'b'", "'ab' | list | tojson")
# Tests.
each("{{ @ }}", "text is string", "1 is string", "text is sequence", "d is sequence", "numbers is sequence", "1 is sequence", "missing is sequence", "nothing is sequence", "text is iterable", "1 is iterable", "d is mapping", "numbers is mapping", "1 is number", "true is number", "1.5 is float", "1 is float", "1 is integer", "true is integer", "true is boolean", "1 is boolean", "none is none", "missing is none", "missing is defined", "nothing is defined", "nothing is not defined", "missing is not defined",
     "missing is undefined", "3 is odd", "4 is even", "6 is divisibleby 3", "6 is divisibleby(4)", "yes is true", "1 is true", "no is false", "'a' is in 'abc'", "1 is in [1]", "1 is eq 1", "2 is gt(1)", "2 is lessthan 3", "1 is ne 2", "'a' is lower", "'A' is upper", "raise_exception is callable", "1 is sameas 1", "none is sameas none", "'upper' is filter", "'odd' is test", "d.C is defined and d.C is iterable and d.C is not string", "messages[0].content is string and true", "not missing is defined", "messages[2].tool_calls is defined and messages[2].tool_calls", "range(3) is sequence", "(1,) is sequence", "1 is nosuch", "missing is string", "missing is iterable", "1 is == 1")
# Statements.
add(
    "{% for n in numbers %}{{ loop.index }}/{{ loop.length }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for n in numbers %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.depth }} {% endfor %}",
    "{% for n in numbers %}{{ loop.previtem }}<{{ n }}>{{ loop.nextitem }};{% endfor %}",
    "{% for n in numbers if n > 1 %}{{ n }}{{ loop.index }}{{ loop.last }} {% else %}none{% endfor %}",
    "{% for n in empty %}x{% else %}nothing{% endfor %}",
    "{% for n in missing %}x{% else %}nothing{% endfor %}",
    "{% for n in nothing %}x{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for c in 'aü🦙' %}[{{ c }}]{% endfor %}",
    "{% for n in numbers %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}",
    "{% for n in numbers %}{% if n == 1 %}{% continue %}{% endif %}{{ n }}{% endfor %}",
    "{% for n in numbers %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for n in [1, 1, 2] %}{{ loop.changed(n) }}{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for i in range(2) %}{% for j in range(2) %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% set x = 1 %}{% for i in range(3) %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set ns = namespace(d, z=3) %}{{ ns.a }}{{ ns.z }}",
    "{% set d.x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set x %}  a {{ text }} {% endset %}[{{ x }}]",
    "{% set x | upper | trim %} a {% endset %}[{{ x }}]",
    "{% if yes %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}",
    "{% if missing %}a{% else %}b{% endif %}",
    "{% if messages[0].role == 'system' and messages | length > 1 %}{{ messages[0].content }}{% endif %}",
    "{% with a = 1, b = text %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% macro m(a, b='x') %}<{{ a }}{{ b }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{% endcall %}",
    "{% macro m() %}[{{ caller(7) }}]{% endmacro %}{% call(x) m() %}in {{ x }}{% endcall %}",
    "{% macro m() %}{{ outer }}{% endmacro %}{% set outer = 'seen' %}{{ m() }}",
    "{% macro m() %}{% set inner = 1 %}{{ inner }}{% endmacro %}{{ m() }}{{ inner is defined }}",
    "{% macro m(t) %}{{ t }}{% endmacro %}{{ m('a') | upper }}{{ m('a') is string }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}",
    "{% filter upper %}a {{ text }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aaa{% endfilter %}",
    "{% block x %}in{% endblock %}",
    "{% generation %}g {{ text }}{% endgeneration %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}",
    "{% set j = joiner(', ') %}{% for w in words %}{{ j() }}{{ w }}{% endfor %}",
    "{{ dict(a=1, b=2) }}{{ dict([('x', 1)]) }}{{ dict(d, z=1).z }}",
    "{{ range(5) | list }}{{ range(2, 5) | sum }}{{ range(5, 0, -2) | list }}",
    "{{ range(1000000) | length }}",
    "{{ raise_exception('no ' ~ text) }}",
    "{{ strftime_now('%Y-%m-%d') }}",
    "{{ strftime_now('%d %b %Y, %H:%M') }}",
    "{% set x = messages | selectattr('role', 'equalto', 'user') %}{% for m in x %}u{% endfor %}{% for m in x %}again{% endfor %}",
    "{% set x = numbers | map('abs') %}{{ x | length }}",
    "{{ (numbers | map('abs'))[0] is defined }}",
    "{% for g in messages | groupby('role') %}{{ g.grouper }}{{ g.list | length }};{% endfor %}",
    "{% for role, list in messages | groupby('role') %}{{ role }}{{ list | length }};{% endfor %}",
    "{% for row in numbers | batch(2, 'x') %}{{ row }}{% endfor %}",
    "{% do numbers %}", "{% nosuch %}", "{% if %}", "{{ }}", "{{ 1 + }}", "{% for x %}{% endfor %}", "{% endif %}", "{{ (1 }}", "{{ 'a }}",
)
# As public templates write it.
add(
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% endif %}{{ system_message.strip() }}|{{ loop_messages | length }}",
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}x{% endif %}{% endfor %}",
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\nYou are helpful<|im_end|>\\n' }}{%- endif %}",
    "{%- for tool in tools %}{{- \"\\n\" }}{{- tool | tojson }}{%- endfor %}",
    "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{%- if ns.multi_step_tool and message.role == 'user' and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}{{ ns.last_query_index }}",
    "{%- set content = messages[2].content %}{%- if '</think>' in content %}{%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{{ reasoning }}|{{ content }}",
    "{%- for tool_call in messages[2].tool_calls %}{%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}{{- '<tool_call>\\n{\"name\": \"' + tool_call.name + '\", \"arguments\": ' }}{{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}",
    "{% for k, v in messages[2].tool_calls[0].function.arguments | items %}<{{ k }}>{{ v if v is string else v | tojson }}</{{ k }}>{% endfor %}",
    "{% for k, v in messages[2].tool_calls[0].function.arguments.items() %}{{ k }}={{ v }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for m in messages %}{% if m.content is string %}{{ m.content | trim }}{% elif m.content is iterable %}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}{% endif %}{% endfor %}",
    "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' if m['role'] == 'user' and m['content'] is string }}{% endfor %}{{ eos_token }}",
    "{%- macro render(params, required) %}{%- for name, spec in params.items() %}{{ name }}{{ '?' if name not in required }}: {{ spec.type if spec.type is string else spec.type | join('|') }}{{ ' = ' ~ spec.default if spec.default is defined }};{%- endfor %}{%- endmacro %}{{ render(tools[0].function.parameters.properties, tools[0].function.parameters.required) }}",
    "{%- if not date_string is defined %}{%- set date_string = 'x' %}{%- endif %}{{ date_string }}",
    "{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}{{ date_string }}",
    "{{- 'Environment: ipython\\n' if builtin_tools is defined or tools is not none }}",
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ '<|assistant|>' if add_generation_prompt }}",
    "{% set thinking = enable_thinking is defined and enable_thinking is false %}{{ thinking }}",
    "{%- set tool_names = tools | map(attribute='function') | map(attribute='name') | list %}{{ tool_names | join(', ') }}",
    "{% set last = messages | last %}{{ last.role }}{{ (messages | first).role }}",
    "{% if messages | selectattr('role', 'eq', 'tool') | list | length > 0 %}has tools{% endif %}",
    "{% for m in messages if m.role not in ['system', 'tool'] %}{{ m.role[0] | upper }}{% endfor %}",
    "{{ messages[1].content.split('. ')[0].strip() }}",
    "{{ messages[1].content.strip().rsplit('. ', 1)[0] }}|{{ messages[1].content.strip().partition('. ')[2] }}",
    "{{ tools[0]['function']['parameters']['properties'].keys() | list | join(', ') }}",
    "{% set ns = namespace(text='') %}{% for m in messages %}{% set ns.text = ns.text + m.role[:1] %}{% endfor %}{{ ns.text }}",
    "{{ '\\n'.join(messages | map(attribute='role')) }}",
    "{{ tools[0].function | tojson(indent=2) | indent(2) }}",
    "{{ tools[0].function.parameters.required | join(', ') if tools[0].function.parameters.required else 'none' }}",
    "{%- set role_indicators = {'user': 'U:', 'assistant': 'A:'} %}{%- for m in messages %}{{ role_indicators[m.role] if m.role in role_indicators else '?' }}{%- endfor %}",
    "{{ messages[0].tool_calls | length }}{{ messages[0].content is sequence }}{{ messages[0] is sequence }}",
    "{{ ('a' if yes else 'b') ~ ('c' if no else 'd') }}",
    "{% set x = {'a': 1} %}{% set x = dict(x, b=2) %}{{ x }}",
    "{% if (messages | length) % 2 == 1 %}odd{% endif %}",
    "{{ messages | map(attribute='content') | select('string') | map('length') | sum }}",
    "{% for m in messages %}{{ loop.index0 is divisibleby 2 }}{% endfor %}",
    "{{ 'x' if messages[0].get('name') is none else 'y' }}{{ messages[0].get('content', '')[:2] }}",
    "{{ messages[0] | tojson }}{{ messages[2].tool_calls[1] | tojson }}",
    "{{ (tools | tojson).replace('\"', \"'\") | length }}",
    "{%- for m in messages -%}{%- if loop.first -%}first{%- endif -%}{%- if loop.last and m.role == 'user' -%} last{%- endif -%}{%- endfor -%}",
)
# What few templates do, and none should do otherwise than in Python.
each("{{ @ }}", "'abc'.find('', 10)", "'abc'.count('', 5)", "'abc'.startswith('', 5)", "'abc'.endswith('c', 0, 2)", "'abc'.index('', 3)", "'abcabc'.find('c', -2)", "'²'.isdecimal()", "'²'.isdigit()", "'½'.isdigit()", "'½'.isnumeric()", "'Ⅷ'.isdigit()", "'٣'.isdecimal()", "'一'.isnumeric()", "'一'.isdigit()", "'a²'.isalnum()", "'\u0345'.isalpha()", "'e\u0301'.isidentifier()", "'1a'.isidentifier()", "'a·'.isidentifier()", "'ﬁ ŉ ς'.casefold()",
     "'{0!a}'.format('ü🦙')", "'%a' % 'ü🦙'", "'{0}{}'.format(1, 2)", "'{}{0}'.format(1, 2)", "'{:>6}'.format(true)", "'{:d}'.format(true)", "'{:d}'.format(1.5)", "'{:x}'.format(1.5)", "'{:#.3g}'.format(1.0)", "'{:010,}|{:09,}|{:08,}|{:012,.2f}'.format(1234, 1234, 1234, -1234.5)", "'{:_x}'.format(1048575)", "'%.*f' % (2, 3.14159)", "'%*.*f|' % (8, 1, 3.14159)", "'%.f' % 2.5", "'%.*s|' % (2, 'abc')")
each("{{ @ }}", "[1] | map(attribute='x', foo=1) | list", "d | dictsort(by='nope')", "{'a': 1, 'b c': 'ü/'} | urlencode", "[('a', 1), ('b', 2)] | urlencode", "'a/b?c=ü&d e' | urlencode", "5 | urlencode", "[1] | urlencode", "'&lt;b&gt; &amp; &#39;&#x41;' | striptags", "'a <!-- x > y --> b' | striptags", "'a\r\nb\x0bc' | indent(2)", "'a\nb\n' | indent(2)", "5 | indent", "missing | indent", "'0b101' | int(0, 0)", "'0x1f' | int(0, 0)", "missing | int", "missing | float", "[] is sameas []", "d is sameas d", "d.C is sameas d.C", "missing is sameas missing", "() is sameas ()", "5 is filter", "none is test",
     "'<a>' | e | e", "'<a>' | safe | e", "'<a>' | e | forceescape", "('<' | e) + '<'", "'<' + ('<' | e)", "'<' + ('<' | safe)", "('<' | safe) ~ '<'", "('<' | e) is escaped", "'<' is escaped", "('<' | safe) is string", "('<b>' | safe | upper) + '<'", "(' <b> ' | safe | trim) + '<'", "('<b>' | safe).strip('<') + '<'", "('a b' | safe).split()[0] + '<'", "('<' | safe | string) + '<'", "('<' | safe) == '<'", "('<' | e) | length", "[('<' | e)] | join('<')", "{('a' | safe): 1}['a']", "('<' | e) | tojson", "'<' | safe in ['<']",
     "d[1:]", "(numbers | map('abs'))[1:] is defined", "missing[1:]", "(nothing)[:3] | length", "true | round", "[1, 2] | truncate(8)", "numbers | truncate(2, true, '', 0)", "5 | truncate", "missing | truncate", "missing | attr('x')", "[('<' | e)]", "missing is callable", "(nothing.x) is callable",
     "dict(**{'a': 1}, **{'b': 2})", "strftime_now('%U %W %V %G %g %u %C %k %l %P %f %n%t|')", "strftime_now('%D %R %X %x %r')", "strftime_now('%c')")
add("{% print 1 %}", "{% print text, 2 %}", "{% autoescape false %}{{ '<' }}{% set x = 1 %}{% endautoescape %}{{ x is defined }}", "{% filter indent(2) %}a\r\nb{% endfilter %}")


# What shows a value in a form of its own.
each("{{ @|filesizeformat }}", "0", "1", "1.0", "2", "999", "999.9", "1000", "1500", "12345", "999999", "1000000", "13 * 10 ** 6", "10 ** 9",
     "10 ** 15", "10 ** 24", "10 ** 27", "10 ** 30", "-5", "-5000", "'4096'", "' 1_000 '", "yes", "f", "'x'", "nothing", "missing", "[]", "big")
each("{{ @|filesizeformat(true) }}", "0", "1", "1023", "1024", "1536", "10 ** 6", "1048576", "10 ** 24", "10 ** 30")
add("{{ 3000|filesizeformat(binary=yes) }}", "{{ 3000|filesizeformat(binary=no) }}", "{{ 1150|filesizeformat }}", "{{ 1250|filesizeformat }}")
each("<a{{ @|xmlattr }}>", "{'class': 'x', 'id': 7}", "{'a': none, 'b': missing, 'c': ''}", "{}", "{'a b': 1}", "{'a/b': 1}", "{'a=b': 1}", "{'a>b': 1}",
     "{'t': '<\"&>'}", "{'t': '<b>'|escape}", "{'<': 'x'}", "{'a': [1, 'x']}", "{1: 2}", "d", "[]", "'x'", "nothing", "{'\u00a0': 1}")
add("<a{{ {'class': 'x'}|xmlattr(false) }}>", "<a{{ {'b': 1, 'c': 2}|xmlattr(autospace=false) }}>", "<a{{ {'b': none}|xmlattr }}>")
each("{{ @|pprint }}", "1", "0.5", "'text'", "\"it's\"", "nothing", "yes", "[1, 'a', none]", "(1,)", "d", "{'b': [{'z': 1, 'y': 2}], 'a': (1, {'d': 4, 'c': 3})}",
     "missing", "{}", "[]", "numbers", "mixed", "umlaut", "big", "{1: 2}", "text * 3")
each("{{ @|pprint }}", "text * 20", "range(60)|list")

# Lines of a width, cut as textwrap cuts them.
each("{{ @|wordwrap }}|{{ @|wordwrap(7) }}|{{ @|wordwrap(7, false) }}|{{ @|wordwrap(5, true, '<>') }}|{{ @|wordwrap(6, break_on_hyphens=false) }}",
     "text", "text * 5", "'a well-known state-of-the-art re-use of e-mail'", "'wait -- no, wait--no! or wait---no, 3-4 and x--'", "''", "'   lead  and   trail   '",
     "lines", "'a\\r\\nb\\x0bc'", "'überlange-Donaudampfschiff-fahrt 你好你好你好你好 - ---- -a- --b'", "'aaaaaaa bbbbbbbbbbbbb'", "'aaaaaa bbbbbbbbbbbbb'", "'-----------------'", "'a-----------------b'",
     "'\\u00a0\\u00a0\\u00a0\\u00a0\\u00a0\\u00a0\\u00a0\\u00a0x y'", "'a1-b2 ab-c ab-cd a-b-c _a-_b ab-c-d'", "'       x'", "('<b> bold' | safe)", "'a\\tb\\tc d e f g'", "'!--a .--b ---c'")
add("{{ text|wordwrap(0) }}", "{{ ''|wordwrap(0) }}", "{{ text|wordwrap(-1) }}", "{{ 5|wordwrap }}", "{{ missing|wordwrap }}", "{{ text|wordwrap(width=9, wrapstring='') }}",
    "{{ text|wordwrap(9, wrapstring=5) }}", "{{ text|wordwrap(9, wrapstring=none) }}", "{{ ('<b> bold text' | safe | wordwrap(5)) + '<' }}", "{{ text|wordwrap('x') }}")


def main():
    out, seen = [], set()
    for source in SNIPPETS:
        if source in seen:
            continue
        seen.add(source)
        try:
            want = compile_template(source).render(**VARIABLES)
            if " object at 0x" in want:  # a function's address
                continue
            out.append({"source": source, "want": want})
        except (jinja2.exceptions.TemplateError, TypeError, ValueError, KeyError, ZeroDivisionError, OverflowError, IndexError, AttributeError) as e:
            out.append({"source": source, "error": type(e).__name__, "message": str(e)[:200]})
    OUT.write_text(json.dumps({"variables": VARIABLES, "snippets": out}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(len(out), "snippets,", sum("error" in s for s in out), "of them errors")


if __name__ == "__main__":
    main()

//! Hostile chat templates: each on a thread with a 2 MiB stack, in bounded time and memory.
//!
//! A template comes from a model file, so from a stranger. Every case must end in a prompt or a typed
//! error; the test prints the slowest case and the one that took the most memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lazul_lm::text::{Chat, ChatTemplate, Message, Prompt, TextError};
use serde_json::{Value, json};

/// Counts live bytes, and the most there were.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system allocator unchanged; only counters are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What must come out.
#[derive(Clone, Copy, PartialEq)]
enum Want {
    /// An error.
    Refused,
    /// This text.
    Text(&'static str),
    /// Either, in time.
    Ends,
}
use Want::{Ends, Refused, Text};

struct Case {
    name: &'static str,
    source: String,
    chat: Chat,
    want: Want,
}

fn nested(open: &str, middle: &str, close: &str, times: usize) -> String {
    format!("{}{middle}{}", open.repeat(times), close.repeat(times))
}

fn cases() -> Vec<Case> {
    let hi = || Chat::new([Message::new("user", "Hi")]);
    let mut out: Vec<Case> = Vec::new();
    let mut add = |name, source: String, want| out.push(Case { name, source, chat: hi(), want });

    // 1-2: loops
    for (name, source) in [
        ("range of 10^9", "{% for i in range(10**9) %}x{% endfor %}"),
        ("range of 2^126", "{{ range(2**126)|length }}"),
        ("range with extremes", "{{ range(0 - 2**126, 2**126) }}"),
        (
            "four loops of 1000",
            "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}\
             {% for d in range(1000) %}x{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
        ),
        (
            "empty loops",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        ),
        ("lists of ranges", "{{ ([range(99999)] * 1000)|map('reverse')|list|length }}"),
        // 3: strings
        ("string times 10^10", "{{ 'a' * 10**10 }}"),
        ("string times 2^126", "{{ 'ab' * 2**126 }}"),
        (
            "string times a constant, folded",
            "{% if false %}{{ 'a' * 10**9 }}{% endif %}{{ 1 // 0 }}",
        ),
        (
            "tilde doubling",
            "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}\
             {% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s|length }}",
        ),
        (
            "plus doubling",
            "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}\
             {% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s|length }}",
        ),
        ("join growth", "{{ range(99999)|join('x' * 100000) }}"),
        ("join of joins", "{{ range(99999)|map('string')|join(range(9999)|join) }}"),
        ("replace growth", "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}"),
        ("replace of nothing", "{{ ('a' * 100000).replace('', 'b' * 100000) }}"),
        ("center", "{{ 'a'|center(10**9) }}"),
        ("ljust", "{{ 'a'.ljust(10**18, 'é') }}"),
        ("zfill", "{{ '1'.zfill(2**63) }}"),
        ("indent", "{{ ('\\n' * 100000)|indent(10**9) }}"),
        ("indent of lines", "{{ ('a\\n' * 100000)|indent(100000) }}"),
        ("format width", "{{ '%1000000000s'|format('a') }}"),
        ("format precision", "{{ '%.1000000000f' % 1.0 }}"),
        ("tojson indent", "{{ [[[[1]]]]|tojson(indent=10**9) }}"),
        ("batch fill", "{{ [1]|batch(10**9, 'x')|list }}"),
        ("slice fill", "{{ [1]|slice(10**9)|list }}"),
        ("expandtabs", "{{ ('\\t' * 4000000).expandtabs()|length }}"),
        ("escape growth", "{{ ('&' * 4000000)|e|e|e|length }}"),
        (
            "title of a lot",
            "{% for i in range(9999) %}{{ ('a ' * 100000).title()[0] }}{% endfor %}",
        ),
        (
            "search in a lot",
            "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{{ 'b' in s }}{% endfor %}",
        ),
        ("output flood", "{% set s = 'a' * 100000 %}{% for i in range(9999) %}{{ s }}{% endfor %}"),
        (
            "capture flood",
            "{% set s = 'a' * 100000 %}{% set x %}{% for i in range(9999) %}{{ s }}{% endfor %}{% endset %}",
        ),
        // 4: lists
        ("list times 10^10", "{{ ([1] * 10**10)|length }}"),
        ("empty list times 10^18", "{{ ([] * 10**18)|length }}{{ 1 // 0 }}"),
        (
            "list doubling",
            "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}\
             {% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l|length }}",
        ),
        (
            "shared nesting, printed",
            "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}\
             {% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        ),
        (
            "shared nesting, as JSON",
            "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}\
             {% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l|tojson }}",
        ),
        (
            "shared nesting, compared",
            "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}\
             {% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
        ),
        (
            "deep nesting",
            "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}\
             {% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        ),
        ("dictionary of many keys", "{{ dict(range(99999)|map('string')|batch(2)|list)|length }}"),
        ("unique of many", "{{ range(99999)|unique|list|length }}"),
        // 5: recursion
        ("recursive macro", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        (
            "two macros",
            "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
        ),
        ("macro default calls itself", "{% macro f(a=f()) %}{% endmacro %}{{ f() }}"),
        (
            "branching macro",
            "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(30) }}{{ 1//0 }}",
        ),
        (
            "caller calls itself",
            "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
        ),
        ("recursive loop", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
        (
            "macro through a namespace",
            "{% set ns = namespace() %}{% macro f() %}{{ ns.f() }}{% endmacro %}{% set ns.f = f %}{{ f() }}",
        ),
        ("map calls map", "{{ [[[[1]]]]|map('map', 'map', 'map', 'nosuch')|list }}"),
    ] {
        add(name, source.to_owned(), Refused);
    }

    // 6: the parser
    for times in [200, 6_000, 150_000] {
        add("parentheses", format!("{{{{ {} }}}}", nested("(", "1", ")", times)), Refused);
        add("brackets", format!("{{{{ {} }}}}", nested("[", "1", "]", times)), Refused);
        add("braces", format!("{{{{ {} }}}}", nested("{1:", "1", "}", times)), Refused);
        add("nots", format!("{{{{ {}x }}}}", "not ".repeat(times)), Refused);
        add("minus signs", format!("{{{{ {}1 }}}}", "-".repeat(times)), Refused);
        add("sums", format!("{{{{ 1{} }}}}", "+1".repeat(times)), Refused);
        add("attributes", format!("{{{{ x{} }}}}", ".x".repeat(times)), Refused);
        add("filters", format!("{{{{ x{} }}}}", "|e".repeat(times)), Refused);
        add("ternaries", format!("{{{{ {}1 }}}}", "1 if 0 else ".repeat(times)), Refused);
        add("targets", format!("{{% set {} = 1 %}}", nested("(", "a", ")", times)), Refused);
    }
    for times in [200, 5_000] {
        add("ifs", nested("{% if x %}", "", "{% endif %}", times), Refused);
        add("fors", nested("{% for x in y %}", "", "{% endfor %}", times), Refused);
        add("open ifs", "{% if x %}".repeat(times), Refused);
    }
    add(
        "many elifs",
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(10_000)),
        Text(""),
    );
    add("long concatenation", format!("{{{{ ''{} }}}}", "~''".repeat(20_000)), Text(""));
    add("many braces", "{".repeat(256 << 10), Refused);
    add("many texts", "a{##}".repeat(50_000), Ends);
    add("past the size limit", " ".repeat((256 << 10) + 1), Refused);
    add("nested raw", "{% raw %}".repeat(10_000), Refused);

    for (name, source, want) in [
        // 7: other files
        ("include", "{% include 'x' %}", Refused),
        ("import", "{% import 'x' as y %}", Refused),
        ("from", "{% from 'x' import y %}", Refused),
        ("extends", "{% extends 'x' %}", Refused),
        // 8: attributes
        ("class walk", "{{ ''.__class__.__mro__[1].__subclasses__() }}", Refused),
        ("globals", "{{ raise_exception.__globals__ }}", Text("")),
        ("init", "{{ messages.__init__ }}{{ namespace.__init__.__globals__ }}", Refused),
        // 9: unknown names
        ("unknown filter", "{{ 1|nosuch }}", Refused),
        ("unknown test", "{{ 1 is nosuch }}", Refused),
        ("unknown function", "{{ nosuch() }}", Refused),
        ("unknown tag", "{% nosuch %}", Refused),
        // 10-11: functions
        ("long exception", "{{ raise_exception('\\n\\x1b[31m' * 500000) }}", Refused),
        ("long date", "{{ strftime_now('%Y' * 1000000) }}", Refused),
        (
            "odd dates",
            "{{ strftime_now('%') }}{{ strftime_now('%-') }}{{ strftime_now('%99999Q%é') }}",
            Text("%%-%99999Q%é"),
        ),
        // 12-13: numbers
        ("slice step zero", "{{ [1][::0] }}", Refused),
        (
            "slice extremes",
            "{% set m = 0 - 2**126 %}{{ 'abc'[m:-m] }}{{ 'abc'[-m:m:m] }}{{ [1][:-m:-m] }}",
            Text("abcc[1]"),
        ),
        ("index extremes", "{{ [1][2**126] }}{{ [1][0 - 2**126] }}{{ 'a'[2**126] }}", Text("")),
        ("overflow", "{{ 2**126 * 2**126 }}", Refused),
        ("power", "{{ 9**999999999 }}", Refused),
        ("negate the least", "{{ ((0 - 2**126) * 2)|abs }}", Refused),
        ("least by minus one", "{{ (0 - 2**126) * 2 // -1 }}", Refused),
        ("least modulo minus one", "{{ (0 - 2**126) * 2 % -1 }}", Refused),
        ("divisible by zero", "{{ 1 is divisibleby 0 }}", Refused),
        (
            "float extremes",
            "{{ 1e308 * 10 }} {{ (1e308 * 10)|int }} {{ (1e308 * 10 - 1e308 * 10)|string }}",
            Text("inf 0 nan"),
        ),
        // 14: orders
        ("sort of a mixture", "{{ [1, 'a', none]|sort }}", Refused),
        ("sort of not-a-number", "{{ [1e999 - 1e999, 2, 1]|sort|length }}", Text("3")),
        ("groupby of a mixture", "{{ [{'a': 1}, {'a': 'x'}]|groupby('a') }}", Refused),
        // 15, and cycles
        (
            "namespace in itself",
            "{% set ns = namespace() %}{% set ns.a = ns %}{% set ns.b = [ns] %}{{ ns.a.a.a is defined }}",
            Text("True"),
        ),
        ("namespace as JSON", "{{ namespace()|tojson }}", Refused),
        (
            "many namespaces",
            "{% for i in range(99999) %}{% set ns = namespace(a='x' * 1000) %}{% endfor %}",
            Ends,
        ),
        ("many fields", "{% set ns = namespace(**{'a': 1}) %}{{ ns.a }}", Text("1")),
        // 17
        ("template in a message", "{{ messages[0].content }}", Text("Hi")),
    ] {
        add(name, source.to_owned(), want);
    }

    // 16: messages
    let all = "{% for m in messages %}{{ m.role }}{{ m.content }}{{ m.zz }}{% endfor %}";
    let mut say = |name, source: &str, chat: Chat, want| {
        out.push(Case { name, source: source.to_owned(), chat, want });
    };
    let message = |value: Value| -> Message { serde_json::from_value(value).unwrap() };
    say(
        "null content",
        all,
        Chat::new([message(json!({"role": "user", "content": null}))]),
        Text("userNone"),
    );
    say("no content", all, Chat::new([message(json!({"role": "user"}))]), Text("user"));
    say(
        "list content",
        all,
        Chat::new([message(json!({"role": "u", "content": [{"a": 1.0}]}))]),
        Text("u[{'a': 1.0}]"),
    );
    say(
        "extra keys",
        all,
        Chat::new([message(json!({"role": "u", "content": "", "zz": true}))]),
        Text("uTrue"),
    );
    say("10^5 messages", all, Chat::new(vec![Message::new("u", "x"); 100_000]), Ends);
    say("10 MiB of content", all, Chat::new([Message::new("u", "x".repeat(10 << 20))]), Refused);
    say(
        "2 MiB of content",
        "{{ messages[0].content|length }}",
        Chat::new([Message::new("u", "é".repeat(1 << 20))]),
        Text("1048576"),
    );
    say(
        "template syntax in content",
        all,
        Chat::new([Message::new("{{ 1 }}", "{% raw %}{{ 7*7 }}")]),
        Text("{{ 1 }}{% raw %}{{ 7*7 }}"),
    );
    let mut deep = json!(1);
    for _ in 0..90 {
        deep = Value::Array(vec![deep]);
    }
    say(
        "deep content",
        "{{ messages[0].content|tojson|length }}",
        Chat::new([message(json!({"role": "u", "content": deep.clone()}))]),
        Text("181"),
    );
    for _ in 0..5_000 {
        deep = Value::Array(vec![deep]);
    }
    let deep = Message { content: Some(deep), ..Message::new("u", "") };
    say("too deep content", all, Chat::new([deep]), Refused);
    // 18: variables
    say("reserved variable", all, Chat::new([]).with_variable("messages", json!([])), Refused);
    say("shadowed function", "{{ joiner }}", Chat::new([]).with_variable("joiner", "x"), Text("x"));
    out
}

fn run(case: Case) -> (Result<Prompt, TextError>, Duration, usize) {
    // The stack that a server's worker may have.
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let base = LIVE.load(Relaxed);
    PEAK.store(base, Relaxed);
    let thread = worker.spawn(move || {
        let start = Instant::now();
        let got = ChatTemplate::new(&case.source).and_then(|template| template.render(&case.chat));
        let time = start.elapsed();
        // A value that is nested this deep would overflow the stack in its own drop.
        std::mem::forget(case.chat);
        (got, time)
    });
    let (got, time) = thread.unwrap().join().expect("no template may panic");
    (got, time, PEAK.load(Relaxed) - base)
}

#[test]
fn hostile_templates_end_in_time_and_space() {
    let (mut slowest, mut largest) = ((Duration::ZERO, ""), (0, ""));
    let mut failures = Vec::new();
    let cases = cases();
    let count = cases.len();
    for case in cases {
        let (name, want) = (case.name, case.want);
        // The template and the messages are the caller's.
        let given: usize = case.chat.messages.iter().map(|m| m.to_owned_size()).sum();
        let (got, time, bytes) = run(case);
        let bytes = bytes.saturating_sub(given);
        slowest = slowest.max((time, name));
        largest = largest.max((bytes, name));
        let good = match (&got, want) {
            (_, Ends) | (Err(_), Refused) => true,
            (Ok(prompt), Text(text)) => prompt.text == text,
            _ => false,
        };
        if let Err(error) = &got {
            let message = error.to_string();
            assert!(message.len() < 1024 && !message.contains(['\n', '\x1b']), "{name}: {message}");
        }
        if !good || std::env::var_os("VERBOSE").is_some() {
            let got: String = format!("{got:?}").chars().take(300).collect();
            let line = format!("{name}: {time:?}, {bytes} bytes: {got}");
            if good { println!("{line}") } else { failures.push(line) }
        }
    }
    println!(
        "{count} templates; slowest {:?} ({}), most memory {} KiB ({})",
        slowest.0,
        slowest.1,
        largest.0 >> 10,
        largest.1
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // The goal is 100 ms in release; a debug build on a busy machine gets ten times that.
    let most = if cfg!(debug_assertions) { 1000 } else { 100 };
    assert!(slowest.0.as_millis() < most, "{slowest:?}");
    assert!(largest.0 <= 16 << 20, "{largest:?}");
}

trait OwnedSize {
    fn to_owned_size(&self) -> usize;
}

impl OwnedSize for Message {
    fn to_owned_size(&self) -> usize {
        match &self.content {
            Some(Value::String(text)) => text.len(),
            _ => 0,
        }
    }
}

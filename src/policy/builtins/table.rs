//! Which builtins there are: Docker's list, by name.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::value::settle;
use super::{
    Builtin, BuiltinError, Origin, collections, encoding, glob, json, json_edit, numbers, objects,
    operators, regex, semver, sprintf, strings, time, units, uuid,
};
use regorus::Value;

/// The builtin of this name, if rules may name it.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static Builtin> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Builtin>> =
        LazyLock::new(|| all().map(|builtin| (builtin.name, builtin)).collect());
    BY_NAME.get(name).copied()
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Builtin> {
    TABLE.iter()
}

const fn builtin(name: &'static str, args: u8, origin: Origin) -> Builtin {
    Builtin { name, min_args: args, max_args: args, origin }
}

macro_rules! ours {
    ($name:literal, $args:literal, $function:path) => {
        builtin($name, $args, Origin::Ours(|args| settle($function(args))))
    };
}

macro_rules! operator {
    ($name:literal, $function:path) => {
        builtin($name, 2, Origin::Ours(|args| binary(args, $function)))
    };
    ($name:literal, ordering $holds:path) => {
        builtin(
            $name,
            2,
            Origin::Ours(|args| {
                binary(args, |a, b| Ok(Value::from($holds(operators::compare(a, b)))))
            }),
        )
    };
}

fn binary(
    args: &[Value],
    operator: fn(&Value, &Value) -> Result<Value, BuiltinError>,
) -> Result<Value, BuiltinError> {
    match args {
        [a, b] => operator(a, b),
        _ => Ok(Value::Undefined),
    }
}

const fn refused(name: &'static str, args: u8, why: &'static str) -> Builtin {
    builtin(name, args, Origin::Refused(why))
}

const CAST: &str = "deprecated, and no part of Rego v1: test with is_string and its like instead";
const CHANCE: &str = "a decision must not depend on chance";
const INTERNAL: &str = "made by the compiler only: use the `in` operator or print";

const YAML: &str = "YAML 1.1 is not read and written here: use JSON";

static TABLE: &[Builtin] = &[
    ours!("abs", 1, numbers::abs),
    refused("all", 1, "deprecated, and no part of Rego v1: use `every`"),
    operator!("and", operators::and),
    refused("any", 1, "deprecated, and no part of Rego v1: use `some … in`"),
    ours!("array.concat", 2, collections::concat),
    ours!("array.flatten", 1, collections::flatten),
    ours!("array.reverse", 1, collections::reverse),
    ours!("array.slice", 3, collections::slice),
    builtin("artifact_attestation", 2, Origin::Context),
    ours!("base64.decode", 1, encoding::base64_decode),
    ours!("base64.encode", 1, encoding::base64_encode),
    ours!("base64.is_valid", 1, encoding::base64_is_valid),
    ours!("base64url.decode", 1, encoding::base64url_decode),
    ours!("base64url.encode", 1, encoding::base64url_encode),
    ours!("base64url.encode_no_pad", 1, encoding::base64url_encode_no_pad),
    ours!("bits.and", 2, numbers::bits_and),
    ours!("bits.lsh", 2, numbers::bits_lsh),
    ours!("bits.negate", 1, numbers::bits_negate),
    ours!("bits.or", 2, numbers::bits_or),
    ours!("bits.rsh", 2, numbers::bits_rsh),
    ours!("bits.xor", 2, numbers::bits_xor),
    refused("cast_array", 1, CAST),
    refused("cast_boolean", 1, CAST),
    refused("cast_null", 1, CAST),
    refused("cast_object", 1, CAST),
    refused("cast_set", 1, CAST),
    refused("cast_string", 1, CAST),
    ours!("ceil", 1, numbers::ceil),
    ours!("concat", 2, strings::concat),
    ours!("contains", 2, strings::contains),
    ours!("count", 1, collections::count),
    operator!("div", operators::div),
    ours!("endswith", 2, strings::endswith),
    operator!("equal", ordering std::cmp::Ordering::is_eq),
    ours!("floor", 1, numbers::floor),
    ours!("format_int", 2, numbers::format_int),
    builtin("github_attestation", 2, Origin::Context),
    ours!("glob.match", 3, glob::matches),
    ours!("glob.quote_meta", 1, glob::quote_meta),
    operator!("gt", ordering std::cmp::Ordering::is_gt),
    operator!("gte", ordering std::cmp::Ordering::is_ge),
    ours!("hex.decode", 1, encoding::hex_decode),
    ours!("hex.encode", 1, encoding::hex_encode),
    ours!("indexof", 2, strings::indexof),
    ours!("indexof_n", 2, strings::indexof_n),
    refused("internal.member_2", 2, INTERNAL),
    refused("internal.member_3", 3, INTERNAL),
    refused("internal.print", 1, INTERNAL),
    ours!("internal.template_string", 1, strings::template_string),
    ours!("intersection", 1, collections::intersection),
    ours!("is_array", 1, collections::is_array),
    ours!("is_boolean", 1, collections::is_boolean),
    ours!("is_null", 1, collections::is_null),
    ours!("is_number", 1, collections::is_number),
    ours!("is_object", 1, collections::is_object),
    ours!("is_set", 1, collections::is_set),
    ours!("is_string", 1, collections::is_string),
    ours!("json.filter", 2, json_edit::filter),
    ours!("json.is_valid", 1, json::is_valid),
    ours!("json.marshal", 1, json::marshal),
    ours!("json.marshal_with_options", 2, json::marshal_with_options),
    ours!("json.patch", 2, json_edit::patch),
    ours!("json.remove", 2, json_edit::remove),
    ours!("json.unmarshal", 1, json::unmarshal),
    builtin("load_json", 1, Origin::Context),
    ours!("lower", 1, strings::lower),
    operator!("lt", ordering std::cmp::Ordering::is_lt),
    operator!("lte", ordering std::cmp::Ordering::is_le),
    ours!("max", 1, collections::max),
    ours!("min", 1, collections::min),
    operator!("minus", operators::sub),
    operator!("mul", operators::mul),
    operator!("neq", ordering std::cmp::Ordering::is_ne),
    ours!("numbers.range", 2, numbers::range),
    ours!("numbers.range_step", 3, numbers::range_step),
    ours!("object.filter", 2, objects::filter),
    ours!("object.get", 3, objects::get),
    ours!("object.keys", 1, objects::keys),
    ours!("object.remove", 2, objects::remove),
    ours!("object.subset", 2, objects::subset),
    ours!("object.union", 2, objects::union),
    ours!("object.union_n", 1, objects::union_n),
    operator!("or", operators::or),
    builtin("pin_image", 2, Origin::Context),
    operator!("plus", operators::add),
    Builtin { name: "print", min_args: 0, max_args: u8::MAX, origin: Origin::Context },
    ours!("product", 1, numbers::product),
    refused("rand.intn", 2, CHANCE),
    refused("re_match", 2, "deprecated, and no part of Rego v1: use regex.match"),
    ours!("regex.find_all_string_submatch_n", 3, regex::find_all_string_submatch_n),
    ours!("regex.find_n", 3, regex::find_n),
    refused("regex.globs_match", 2, "two patterns cannot be intersected here: use glob.match"),
    ours!("regex.is_valid", 1, regex::is_valid),
    ours!("regex.match", 2, regex::matches),
    ours!("regex.replace", 3, regex::replace),
    ours!("regex.split", 2, regex::split),
    ours!("regex.template_match", 4, regex::template_match),
    operator!("rem", operators::rem),
    ours!("replace", 3, strings::replace),
    ours!("round", 1, numbers::round),
    ours!("semver.compare", 2, semver::compare),
    ours!("semver.is_valid", 1, semver::is_valid),
    refused("set_diff", 2, "deprecated, and no part of Rego v1: use `a - b`"),
    ours!("sort", 1, collections::sort),
    ours!("split", 2, strings::split),
    ours!("sprintf", 2, sprintf::sprintf),
    ours!("startswith", 2, strings::startswith),
    ours!("strings.any_prefix_match", 2, strings::any_prefix_match),
    ours!("strings.any_suffix_match", 2, strings::any_suffix_match),
    ours!("strings.count", 2, strings::count),
    refused("strings.render_template", 2, "Go's templates are not known here: use sprintf"),
    ours!("strings.replace_n", 2, strings::replace_n),
    ours!("strings.reverse", 1, strings::reverse),
    ours!("substring", 3, strings::substring),
    ours!("sum", 1, numbers::sum),
    ours!("time.add_date", 4, time::add_date),
    ours!("time.clock", 1, time::clock),
    ours!("time.date", 1, time::date),
    ours!("time.diff", 2, time::diff),
    ours!("time.format", 1, time::format),
    builtin("time.now_ns", 0, Origin::Context),
    ours!("time.parse_duration_ns", 1, time::parse_duration_ns),
    ours!("time.parse_ns", 2, time::parse_ns),
    ours!("time.parse_rfc3339_ns", 1, time::parse_rfc3339_ns),
    ours!("time.weekday", 1, time::weekday),
    ours!("to_number", 1, numbers::to_number),
    ours!("trim", 2, strings::trim),
    ours!("trim_left", 2, strings::trim_left),
    ours!("trim_prefix", 2, strings::trim_prefix),
    ours!("trim_right", 2, strings::trim_right),
    ours!("trim_space", 1, strings::trim_space),
    ours!("trim_suffix", 2, strings::trim_suffix),
    ours!("type_name", 1, collections::type_name),
    ours!("union", 1, collections::union),
    ours!("units.parse", 1, units::parse),
    ours!("units.parse_bytes", 1, units::parse_bytes),
    ours!("upper", 1, strings::upper),
    ours!("urlquery.decode", 1, encoding::urlquery_decode),
    ours!("urlquery.decode_object", 1, encoding::urlquery_decode_object),
    ours!("urlquery.encode", 1, encoding::urlquery_encode),
    ours!("urlquery.encode_object", 1, encoding::urlquery_encode_object),
    ours!("uuid.parse", 1, uuid::parse),
    refused("uuid.rfc4122", 1, CHANCE),
    builtin("verify_git_signature", 2, Origin::Context),
    builtin("verify_http_pgp_signature", 3, Origin::Context),
    builtin("verify_image_signature", 2, Origin::Context),
    refused("yaml.is_valid", 1, YAML),
    refused("yaml.marshal", 1, YAML),
    refused("yaml.unmarshal", 1, YAML),
];

//! The operators, as OPA's builtins of the same meaning: a type error is undefined, arithmetic is
//! decimal to the reader.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_bigint::Sign;
use regorus::Value;

use super::BuiltinError;
use super::number::{Big, Num, int_value};
use super::value::{self, Fail, Outcome, as_int, as_set, settle};

/// `a + b`.
pub fn add(a: &Value, b: &Value) -> Result<Value, BuiltinError> {
    settle(arithmetic("plus", (a, b), i64::checked_add, |a, b| a + b, Big::add))
}

/// `a - b`, of numbers or of sets.
pub fn sub(a: &Value, b: &Value) -> Result<Value, BuiltinError> {
    if let (Value::Set(a), Value::Set(b)) = (a, b) {
        return Ok(a.difference(b).into_value());
    }
    settle(arithmetic("minus", (a, b), i64::checked_sub, |a, b| a - b, |a, b| a.add(&b.neg())))
}

/// `a * b`.
pub fn mul(a: &Value, b: &Value) -> Result<Value, BuiltinError> {
    settle(arithmetic("mul", (a, b), i64::checked_mul, |a, b| a * b, Big::mul))
}

/// `a / b`; undefined where `b` is zero.
pub fn div(a: &Value, b: &Value) -> Result<Value, BuiltinError> {
    if let (Some(a), Some(b)) = (as_int(a), as_int(b))
        && a.checked_rem(b) == Some(0)
        && let Some(quotient) = a.checked_div(b)
    {
        return Ok(Value::from(quotient));
    }
    settle(quotient(a, b))
}

fn quotient(a: &Value, b: &Value) -> Outcome {
    let (a, b) = (Num::of(a)?.to_big(), Num::of(b)?.to_big());
    a.div(&b).ok_or(Fail::Undefined)?.to_value("div")
}

/// `a % b`, of integers; undefined where `b` is zero.
pub fn rem(a: &Value, b: &Value) -> Result<Value, BuiltinError> {
    settle(remainder(a, b))
}

fn remainder(a: &Value, b: &Value) -> Outcome {
    let a = Num::of(a)?.to_int().ok_or(Fail::Undefined)?;
    let b = Num::of(b)?.to_int().ok_or(Fail::Undefined)?;
    // OPA looks at the low 64 bits of the divisor for zero.
    let low = b.magnitude().iter_u64_digits().next().unwrap_or(0);
    if low == 0 || b.sign() == Sign::NoSign {
        return Err(Fail::Undefined);
    }
    int_value("rem", &(a % b))
}

/// `a & b`, of sets.
pub fn and(a: &Value, b: &Value) -> Result<Value, BuiltinError> {
    settle(sets(a, b, |a, b| a.intersection(b)))
}

/// `a | b`, of sets.
pub fn or(a: &Value, b: &Value) -> Result<Value, BuiltinError> {
    settle(sets(a, b, |a, b| a.union(b)))
}

/// How two values compare in OPA. regorus has sets before objects, OPA after.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    value::compare(a, b)
}

type SetOperation = fn(&regorus::value::Set, &regorus::value::Set) -> regorus::value::Set;

fn sets(a: &Value, b: &Value, operation: SetOperation) -> Outcome {
    Ok(operation(as_set(a)?, as_set(b)?).into_value())
}

fn arithmetic(
    name: &'static str,
    (a, b): (&Value, &Value),
    small: fn(i64, i64) -> Option<i64>,
    exact: fn(BigInt, BigInt) -> BigInt,
    float: fn(&Big, &Big) -> Big,
) -> Outcome {
    if let (Some(a), Some(b)) = (as_int(a), as_int(b))
        && let Some(result) = small(a, b)
    {
        return Ok(Value::from(result));
    }
    let (a, b) = (Num::of(a)?, Num::of(b)?);
    if let (Some(a), Some(b)) = (a.to_int(), b.to_int()) {
        return int_value(name, &exact(a, b));
    }
    float(&a.to_big(), &b.to_big()).to_value(name)
}

//! OPA's treatment of `not`.

use regorus::unstable::{BoolOp, Expr};

use super::super::ir::{Comparison, Membership, Step, Term};
use super::call::Param;
use super::term::{Operand, arithmetic, binary, comparison, flatten, is_wildcard};
use super::{Lowerer, Result};

impl Lowerer<'_> {
    /// What stands under a `not`.
    ///
    /// OPA evaluates the operands of a negated call in front of the `not`: where one is undefined,
    /// the statement is, and does not hold. A reference on its own, or beside `==` or `=`, stays.
    pub(super) fn negated(
        &mut self,
        expr: &Expr,
        outer: &mut Vec<Step>,
        inner: &mut Vec<Step>,
    ) -> Result<()> {
        let term = match expr {
            Expr::Call { fcn, params, span, .. } => {
                let mut args = Vec::new();
                for param in self.terms_for_call(fcn, params, outer)? {
                    args.push(match param {
                        Param::Term(term) => Param::Term(self.hold(term, outer)),
                        output @ Param::Output(_) => output,
                    });
                }
                self.call(fcn, args, span, inner)?
            }
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } | Expr::AssignExpr { lhs, rhs, .. } => {
                let lhs = self.kept(lhs, outer, inner)?;
                let rhs = self.kept(rhs, outer, inner)?;
                Term::Compare(Comparison::Equal, Box::new((lhs, rhs)))
            }
            Expr::BoolExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.hoisted(lhs, outer)?, self.hoisted(rhs, outer)?));
                Term::Compare(comparison(op), pair)
            }
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.hoisted(lhs, outer)?, self.hoisted(rhs, outer)?));
                Term::Arithmetic(arithmetic(op), pair)
            }
            Expr::BinExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.hoisted(lhs, outer)?, self.hoisted(rhs, outer)?));
                Term::Arithmetic(binary(op), pair)
            }
            Expr::Membership { key, value, collection, .. } => {
                let key = key.as_ref().map(|key| self.hoisted(key, outer)).transpose()?;
                let value = self.hoisted(value, outer)?;
                let collection = self.hoisted(collection, outer)?;
                Term::Member(Box::new(Membership { key, value, collection }))
            }
            expr => self.kept(expr, outer, inner)?,
        };
        inner.push(Step::Test(term));
        Ok(())
    }

    fn hoisted(&mut self, expr: &Expr, outer: &mut Vec<Step>) -> Result<Term> {
        let term = self.term(expr, outer)?;
        Ok(self.hold(term, outer))
    }

    /// A term that stays under the `not`, where it is a reference or a comprehension.
    fn kept(&mut self, expr: &Expr, outer: &mut Vec<Step>, inner: &mut Vec<Step>) -> Result<Term> {
        match expr {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let (base, operands) = flatten(expr);
                for operand in &operands {
                    if let Operand::Index(index) = operand
                        && self.unset(index).is_none()
                        && !is_wildcard(index)
                        && !matches!(
                            index,
                            Expr::String { .. } | Expr::Number { .. } | Expr::Var { .. }
                        )
                    {
                        // Evaluated in front for whether it is defined; the reference reads it again.
                        self.hoisted(index, outer)?;
                    }
                }
                if !matches!(base, Expr::Var { .. }) {
                    self.hoisted(base, outer)?;
                }
                self.term(expr, inner)
            }
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {
                self.term(expr, inner)
            }
            expr => self.hoisted(expr, outer),
        }
    }
}

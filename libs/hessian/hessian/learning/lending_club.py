"""Lending Club's own columns, by the names and spellings of its public loan files: what each may be used for, and what it may hold.

A model for new loans may only read what is known when a loan is asked for. Most of these files' columns are not: they tell how the loan
went. The spellings are those of the quarterly files, of the later collected ones and of the sample in the R package modeldata.
"""

from __future__ import annotations

from collections.abc import Mapping

STATUS = "loan_status"
BAD, GOOD = "Charged Off", "Fully Paid"
FINAL = (BAD, GOOD)

_AFTERWARDS = "known only after the loan was paid out: it would tell how the loan went"
_DATE = "a date: it would have to be turned into an age first"
_WORDS = "free text"
_PLACE = "a name or a place of its own, not a property of the loan"

LEFT_OUT: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "out_prncp", "out_prncp_inv", "total_pymnt", "total_pymnt_inv", "total_rec_prncp", "total_rec_int", "total_rec_late_fee",
            "recoveries", "collection_recovery_fee", "last_pymnt_d", "last_pymnt_amnt", "next_pymnt_d", "last_credit_pull_d",
            "last_fico_range_high", "last_fico_range_low", "pymnt_plan", "deferral_term", "payment_plan_start_date",
            "orig_projected_additional_accrued_interest", "debt_settlement_flag", "debt_settlement_flag_date", STATUS,
        ),
        _AFTERWARDS,
    ),
    **dict.fromkeys(("issue_d", "earliest_cr_line", "sec_app_earliest_cr_line"), _DATE),
    **dict.fromkeys(("emp_title", "title", "desc"), _WORDS),
    **dict.fromkeys(("id", "member_id", "url", "zip_code"), _PLACE),
    "policy_code": "tells which of Lending Club's programmes listed the loan, not what the borrower is like",
}  # fmt: skip
_AFTERWARDS_PREFIXES = ("hardship_", "settlement_")

PERCENT = "%"
RANGES: Mapping[str, tuple[str, str]] = {
    "loan_amnt": ("0", "100000"),
    "funded_amnt": ("0", "100000"),
    "funded_amnt_inv": ("0", "100000"),
    "int_rate": ("0", "100"),
    "installment": ("0", "10000"),
    "annual_inc": ("0", "1000000000"),
    "annual_inc_joint": ("0", "1000000000"),
    "dti": ("-1", "10000"),
    "dti_joint": ("-1", "10000"),
    "fico_range_low": ("300", "850"),
    "fico_range_high": ("300", "850"),
    "revol_util": ("0", "1000"),
    "all_util": ("0", "1000"),
    "il_util": ("0", "10000"),
    "bc_util": ("0", "10000"),
    "delinq_2yrs": ("0", "1000"),
    "inq_last_6mths": ("0", "1000"),
    "open_acc": ("0", "1000"),
    "pub_rec": ("0", "1000"),
    "total_acc": ("0", "1000"),
}
UNITS: Mapping[str, str] = {"int_rate": PERCENT, "revol_util": PERCENT}

Levels = tuple[tuple[str, tuple[str, ...]], ...]
_YEARS: Levels = tuple(
    (f"{years} year{'' if years == 1 else 's'}", (f"{years} year{'' if years == 1 else 's'}", f"emp_{years}")) for years in range(1, 10)
)
LEVELS: Mapping[str, Levels] = {
    "term": (("36 months", ("36 months", " 36 months", "36", "term_36")), ("60 months", ("60 months", " 60 months", "60", "term_60"))),
    "emp_length": (
        ("under 1 year", ("< 1 year", "emp_lt_1")),
        *_YEARS,
        ("10 years and more", ("10+ years", "emp_ge_10")),
        ("unknown", ("n/a", "", "emp_unk")),
    ),
    "grade": tuple((grade, (grade,)) for grade in "ABCDEFG"),
    "sub_grade": tuple((grade, tuple(f"{grade}{step}" for step in range(1, 6))) for grade in "ABCDEFG"),
    "verification_status": (
        ("not verified", ("Not Verified", "not verified", "Not_Verified")),
        ("source verified", ("Source Verified", "VERIFIED - income source", "Source_Verified")),
        ("verified", ("Verified", "VERIFIED - income")),
    ),
    "home_ownership": (("mortgage", ("MORTGAGE",)), ("rent", ("RENT",)), ("own", ("OWN",))),
    "application_type": (("individual", ("Individual", "INDIVIDUAL")), ("joint", ("Joint App", "JOINT"))),
    "initial_list_status": (("whole", ("w",)), ("fractional", ("f",))),
}

_MARKS = frozenset({"funded_amnt", "int_rate", "sub_grade", "emp_length", "annual_inc", "verification_status", "term", STATUS})
_LEAST_MARKS = 4


def is_lending_club(columns: Mapping[str, object]) -> bool:
    """Whether these are that lender's columns: one name alone says little."""
    return len(_MARKS & set(columns)) >= _LEAST_MARKS


def left_out(column: str) -> str | None:
    """Why a model must not read this column; None where it may."""
    return _AFTERWARDS if column.startswith(_AFTERWARDS_PREFIXES) else LEFT_OUT.get(column)

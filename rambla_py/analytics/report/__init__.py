"""Reports of the events in a database: figures, a page, tables of a terminal."""

from rambla_py.analytics.report.model import Report
from rambla_py.analytics.report.opening import open_database
from rambla_py.analytics.report.page import render_page
from rambla_py.analytics.report.queries import read_report, report_of
from rambla_py.analytics.report.terminal import terminal_report

__all__ = ["Report", "open_database", "read_report", "render_page", "report_of", "terminal_report"]

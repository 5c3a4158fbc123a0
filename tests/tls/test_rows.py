"""Every row of the inventory about TLS, and the test that stands for it; counted at the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# "-" and a reason: what no longer exists, and what is said to those who ask for it.
ROWS = {
    "TLS-01": "live_verification: a_thousand_connections_share_two_contexts",
    "TLS-02": "context: nonsense_is_refused_by_name",
    "TLS-03": "negotiation: versions, old_versions_are_refused_unless_asked_for",
    "TLS-04": "verification: verify_off_turns_everything_off",
    "TLS-05": "verification: client_certificates",
    "TLS-06": "context: cas_from_file_directory_text_and_objects, environment_names_the_cas, "
    "certifi_stands_in_for_a_missing_system_store",
    "TLS-07": "verification: a_name_is_needed_where_it_is_checked, name_check_by_a_function",
    "TLS-08": "names: every_scheme_checks_host_names, service_names",
    "TLS-09": "names: names_agree_with_a_second_opinion",
    "TLS-10": "names: an_ip_address_matches_no_dns_name, more_names",
    "TLS-11": "names: the_common_name_is_never_looked_at",
    "TLS-12": "verification: verify_callback_sees_every_certificate_and_has_the_last_word",
    "TLS-13": "context: identity_from_files_text_and_objects, a_bad_file_is_named",
    "TLS-14": "context: identity_from_files_text_and_objects, "
    "a_password_of_the_wrong_type_is_refused",
    "TLS-15": "context: nonsense_is_refused_by_name",
    "TLS-16": "negotiation: ciphers",
    "TLS-17": "resumption: sessions_are_resumed, resumption_can_be_turned_off",
    "TLS-18": "trust: a_revoked_certificate_is_refused, crls_are_found_in_a_hashed_directory",
    "TLS-19": "negotiation: prepare_sees_each_native_context",
    "TLS-20": "negotiation: server_name_is_sent_for_host_names_only",
    "TLS-21": "negotiation: a_context_made_by_hand_is_used_as_it_is",
    "TLS-22": "- nothing to initialise: OpenSSL is imported with the first context",
    "TLS-23": "names: a_certificate_is_named_on_one_line",
    "TLS-24": "- no temporary files: certificates are passed in memory",
    "TLS-25": "engines: a_wrong_name_is_refused_and_the_server_hears_of_it",
    "HANDLE-100": "live: starting_twice_and_a_wrong_mode_are_errors",
    "HANDLE-101": "handle/tls: without_an_engine_the_error_names_one",
    "HANDLE-102": "live_verification: the_name_connected_to_is_the_name_verified",
    "HANDLE-103": "live: injected_clear_text_is_never_data, injection_is_refused_at_every_cut",
    "HANDLE-104": "live_verification: "
    "a_refused_peer_does_not_destroy_the_handle_that_asked, "
    "without_a_callback_a_refused_peer_is_a_fatal_error",
    "HANDLE-105": "live: started_comes_before_any_data",
    "HANDLE-106": "live: end_of_stream_in_the_handshake_is_told_to_on_tls_started",
    "HANDLE-107": "live: tls_stops_on_both_sides_and_clear_text_goes_on",
    "HANDLE-108": "live: truncation_is_reported, truncation_may_be_allowed",
    "HANDLE-109": "handle/tls_end: an_idle_tls_handle_stops_reading_at_the_limit",
    "HANDLE-110": "live: many_small_lines_pass",
    "HANDLE-111": "handle/tls: on_drain_counts_clear_text_and_ciphertext",
    "HANDLE-112": "- resettls lost data; stop_tls ends TLS in mid-stream",
    "HANDLE-113": "live: destroy_says_goodbye",
    "HANDLE-114": "trust: openssl_errors_are_translated",
    "A80.0": "upstream: the_client_speaks_and_goes, the_server_speaks_and_goes, "
    "the_client_asks_and_the_server_answers_and_goes, "
    "the_server_asks_and_the_client_answers_and_goes, blocks_of_any_size_are_echoed",
    "A80.1": "upstream: the_client_speaks_and_goes",
    "A80.4": "upstream: the_server_asks_and_the_client_answers_and_goes",
    "B140": "live: both_sides_are_told_and_lines_pass",
    "B142": "live: tls_stops_on_both_sides_and_clear_text_goes_on, "
    "a_close_notify_is_the_end_where_nobody_waits_for_it",
    "B144": "names: names_agree_with_a_second_opinion",
    "B145": "live: upgrade_in_the_middle_of_a_stream",
    "B147": "live: autostart_tells_tls_from_clear_text",
    "B148": "live: starting_twice_and_a_wrong_mode_are_errors",
    "B149": "live: truncation_is_reported",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_tests(row: str, tally: Counter[str]) -> None:
    where, _, names = ROWS[row].partition(": ")
    if where.startswith("- "):
        tally["rows without a counterpart"] += 1
        return
    room, _, file = where.rpartition("/")
    text = (HERE.parent / (room or "tls") / f"test_{file}.py").read_text("utf-8")
    for name in names.split(", "):
        assert f"def test_{name}(" in text
    tally["rows of the inventory"] += 1

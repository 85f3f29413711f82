"""Which test belongs to which fault; the results page shows it, and a test sees to it that each of them exists."""

FAULTS = {
    "kill -9 of the checker": ["test_killed.py::test_a_few_kills_lose_nothing_and_do_nothing_twice"],
    "… between verdict and journal": ["test_killed.py::test_killed_between_the_verdict_and_the_journal"],
    "… between journal and request": ["test_killed.py::test_killed_between_the_journal_and_the_request"],
    "… between request and its entry": ["test_killed.py::test_killed_between_the_request_and_its_entry"],
    "… between a signal and the next look": ["test_killed.py::test_killed_between_a_signal_and_the_next_look"],
    "… between verdict and report": [
        "test_killed.py::test_a_report_about_an_earlier_state_is_not_taken_for_the_last_one"
    ],
    "… and what it leaves": ["test_killed.py::test_what_a_killed_checker_leaves_is_cleared"],
    "escalation goes on where it stood": ["test_killed.py::test_patience_goes_on_where_it_stood"],
    "disk full": [
        "test_faults.py::test_disk_full_while_a_run_is_doomed",
        "test_faults.py::test_disk_full_of_the_whole_root",
        "test_faults.py::test_disk_full_when_only_the_request_does_not_fit",
        "test_faults.py::test_disk_full_does_not_save_a_run_that_was_asked",
        "test_faults.py::test_a_torn_entry_is_taken_back_and_written_whole",
    ],
    "read-only folder": ["test_faults.py::test_read_only_folder", "test_faults.py::test_permission_denied"],
    "permission denied": [
        "test_faults.py::test_permission_denied",
        "test_faults.py::test_permission_denied_from_the_beginning",
        "test_faults.py::test_a_log_that_could_not_be_read_at_first_is_no_other_log",
        "test_faults.py::test_a_journal_that_nobody_may_read_is_not_begun_anew",
    ],
    "file descriptors exhausted": [
        "test_faults.py::test_file_descriptors_exhausted",
        "test_faults.py::test_a_plan_that_could_not_be_read_for_want_of_descriptors_still_counts",
        "test_faults.py::test_file_descriptors_exhausted_before_the_first_status_was_read",
        "test_faults.py::test_file_descriptors_exhausted_are_no_reason_to_give_up_a_kill",
        "test_faults.py::test_a_thousand_finished_runs_hold_no_files_open",
        "test_faults.py::test_no_more_file_notifications",
        "test_real_daemon.py::test_a_real_checker_that_is",
    ],
    "folder deleted and made again": [
        "test_faults.py::test_a_folder_deleted_and_made_again_between_two_looks",
        "test_faults.py::test_a_folder_deleted_and_made_again_later",
        "test_faults.py::test_a_folder_replaced_by_a_file",
    ],
    "file truncated, rotated, replaced": ["test_faults.py::test_a_log_that_is"],
    "duplicated and out-of-order steps": ["test_faults.py::test_duplicated_and_out_of_order_steps"],
    "resumed runs": [
        "test_faults.py::test_a_resumed_run_is_not_stopped_for_its_past",
        "test_faults.py::test_the_next_process_is_not_stopped_for_a_row_that_came_before_it",
    ],
    "clock jumps, both ways": [
        "test_faults.py::test_the_clock_jumps",
        "test_faults.py::test_the_clock_jumps_and_uses_up_no_budget",
        "test_faults.py::test_the_clock_jumps_during_a_kill_and_nobodys_patience_changes",
        "test_faults.py::test_the_clock_jumps_back_while_a_process_vanishes",
    ],
    "suspended machine": [
        "test_faults.py::test_a_suspended_machine_takes_nobodys_patience",
        "test_faults.py::test_the_daemon_knows_how_long_it_stood_still",
        "test_real_daemon.py::test_a_real_checker_that_is",
    ],
    "status file corrupt, empty, another version": [
        "test_faults.py::test_a_status_file_that_is",
        "test_faults.py::test_a_status_file_that_becomes_something_else_during_a_kill",
        "test_faults.py::test_a_status_file_written_by_another_version",
    ],
    "1 MB lines, binary noise": [
        "test_noise.py::test_noise_in_a_log",
        "test_noise.py::test_a_last_line_of_1_mb_that_never_ends",
    ],
    "symlink loop": [
        "test_faults.py::test_a_symlink_loop_and_a_second_name",
        "test_faults.py::test_a_run_elsewhere_is_watched_through_its_links_once",
    ],
    "FIFO or device in place of a file": [
        "test_faults.py::test_a_metrics_file_that_is",
        "test_faults.py::test_a_journal_that_keeps_no_evidence_is",
        "test_faults.py::test_a_page_or_record_that_is_no_file_is_never_waited_for",
    ],
    "folder names with newlines, ../, escapes, no UTF-8": [
        "test_faults.py::test_a_folder_named_with",
        "test_faults.py::test_a_hidden_folder_is_left_alone",
    ],
    "10,000 findings in one run": ["test_faults.py::test_ten_thousand_findings_in_one_run"],
    "one bad run never disturbs another": ["test_faults.py::test_one_bad_run_never_disturbs_another"],
    "any bytes for the parsers": ["test_noise.py::test_the_parser_of"],
}

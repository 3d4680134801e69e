// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {SettlementLedger} from "../src/SettlementLedger.sol";
import {LedgerTimelock} from "../src/LedgerTimelock.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {NaiveLedger} from "./NaiveLedger.sol";
import {TestToken} from "./Tokens.sol";
import {Tree} from "./Tree.sol";
import {vm} from "./Vm.sol";

/**
 * @notice Attacks on a ledger by name. Each first works on a naive ledger, and then fails on ours; the details of why
 * are in the tests of Posting, Claiming and Tokens. {SharesAttacksTest} has those on shares, tests/unit/test_attacks.py
 * those on the log.
 */
contract AttacksTest is LedgerTest {
    address internal constant THIEF = address(0x666);

    NaiveLedger internal naive;

    function setUp() public override {
        super.setUp();
        naive = naiveWith(MONEY);
    }

    /// @dev The poster's key alone: nothing is active without the auditor, however long one waits.
    function test_attack_stolen_poster_key() public {
        uint256 theft = naivePost(THIEF, MONEY);
        wait(DELAY);
        naive.claim(THIEF, theft, MONEY);
        vm.assertEq(token.balanceOf(THIEF), MONEY, "the naive ledger is empty");

        Payouts memory payouts = payoutsOf(THIEF, MONEY);
        uint256 one = post(payouts);
        wait(365 days);
        expectNotActive(one, payouts, 0);
        vm.assertEq(token.balanceOf(address(ledger)), MONEY, "ours has everything");
    }

    /// @dev A root above a disputed one is dead, whatever is posted and attested after it.
    function test_attack_stale_root_after_dispute() public {
        uint256 theft = naivePost(THIEF, 1);
        uint256 stale = naivePost(THIEF, MONEY);
        naive.dispute(theft);
        naivePost(ALICE, 10);
        wait(DELAY);
        naive.claim(THIEF, stale, MONEY);
        vm.assertEq(token.balanceOf(THIEF), MONEY, "the naive ledger pays the stale root");

        uint256 two = post(payoutsOf(THIEF, 1));
        Payouts memory payouts = payoutsOf(THIEF, MONEY);
        uint256 three = post(payouts);
        dispute(two);
        attest(post(payoutsOf(ALICE, 10)));
        wait(DELAY);
        expectNotActive(three, payouts, 0);
        attest(post(payoutsOf(ALICE, 20)));
        wait(DELAY);
        bytes32[] memory proof = proofOf(payouts, 0);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.ProofInvalid.selector, three, THIEF, MONEY));
        ledger.claim(THIEF, three, MONEY, proof);
    }

    /// @dev A dispute must fit into a block however many posts it kills.
    /// forge-config: default.isolate = true
    function test_attack_dispute_after_thousands_of_posts() public {
        for (uint256 i = 0; i < 2_000; ++i) {
            naive.post(bytes32(i));
        }
        naive.disputeEach(1);
        vm.assertGe(vm.lastCallGas().gasTotalUsed, 10_000_000, "and it grows with every post");

        for (uint256 i = 0; i < 2_000; ++i) {
            post(bytes32(i), i);
        }
        dispute(1);
        vm.assertLe(vm.lastCallGas().gasTotalUsed, 45_000, "one transaction for ours");
        vm.assertEq(ledger.nextSequence(), 1, "all are dead");
    }

    /// @dev Poster and auditor together: the guardian still has the whole delay, and what was owed stays.
    function test_attack_one_leaf_root_for_all_the_free_money() public {
        naive = new NaiveLedger(token, 0);
        token.mint(address(naive), MONEY);
        naive.claim(THIEF, naivePost(THIEF, MONEY), MONEY);
        vm.assertEq(token.balanceOf(THIEF), MONEY, "gone in one block");

        Payouts memory honest = payoutsOf(ALICE, 10);
        uint256 one = activate(honest);
        Payouts memory theft = payoutsOf(THIEF, MONEY);
        uint256 two = post(theft);
        attest(two);
        wait(DELAY - 1);
        expectNotActive(two, theft, 0);
        dispute(two);
        wait(DELAY);
        expectNotActive(two, theft, 0);
        vm.assertEq(claim(one, honest, 0), 10, "Alice is paid");
        vm.assertEq(ledger.free(), MONEY - 10, "and the rest is free");
    }

    /// @dev The admin's keys, all that is owed as the prize: revoke the honest post, put everybody out, post and attest
    /// a theft with keys of one's own. With a plain key it takes one block and the ledger's delay. A timelock announces
    /// each step, so payees have claimed, or a guardian has cancelled, before the first of them.
    function test_attack_stolen_admin() public {
        vm.chainId(31_337); // where an admin may be a plain key
        Payouts memory honest = payoutsOf(600_000e6, 300_000e6, 100_000e6);
        Payouts memory theft = payoutsOf(THIEF, MONEY);
        activate(honest);
        steal(theft);
        wait(DELAY);
        claim(2, theft, 0);
        vm.assertEq(token.balanceOf(THIEF), MONEY, "a plain key takes all that was owed");

        vm.chainId(1);
        token = new TestToken(6);
        LedgerTimelock admin = new LedgerTimelock(DELAY, alone(THIEF), alone(GUARDIAN)); // the proposer's key is stolen
        ledger = new SettlementLedger(settingsOf(token, DELAY), handsOf(address(admin), alone(AUDITOR), 1));
        token.mint(address(ledger), MONEY);
        uint256 one = activate(honest);
        bytes memory revocation = abi.encodeCall(ledger.revoke, (one));
        vm.prank(THIEF);
        admin.schedule(address(ledger), 0, revocation, bytes32(0), bytes32(0), DELAY);
        wait(DELAY - 1);
        vm.assertEq(ledger.claimMany(one, batchOf(honest)), MONEY, "all payees have claimed meanwhile");
        bytes32 id = admin.hashOperation(address(ledger), 0, revocation, bytes32(0), bytes32(0));
        vm.prank(GUARDIAN);
        admin.cancel(id);
        vm.assertTrue(ledger.isActive(one), "and a guardian has cancelled it");
    }

    /// @dev What the admin can do in one block.
    function steal(Payouts memory theft) internal {
        address thiefsPoster = address(0x667);
        address thiefsAuditor = address(0x668);
        bytes32[3] memory roles = [ledger.POSTER_ROLE(), ledger.AUDITOR_ROLE(), ledger.GUARDIAN_ROLE()];
        vm.prank(ADMIN);
        ledger.revoke(1);
        vm.prank(ADMIN);
        ledger.revokeRole(roles[2], GUARDIAN);
        vm.prank(ADMIN);
        ledger.grantRole(roles[0], thiefsPoster);
        vm.prank(ADMIN);
        ledger.grantRole(roles[1], thiefsAuditor);
        bytes32 head = ledger.head();
        bytes32 root = rootOf(theft);
        uint64 end = uint64(block.timestamp);
        vm.prank(thiefsPoster);
        ledger.post(2, head, "w", root, "m", end - 1, end, MONEY, 0);
        head = ledger.head();
        vm.prank(thiefsAuditor);
        ledger.attest(2, head);
    }

    /// @dev Fewer auditors' keys than the quorum, with the poster's: nothing becomes active, however long one waits.
    function test_attack_poster_and_too_few_auditors() public {
        Payouts memory theft = payoutsOf(THIEF, MONEY);
        uint256 stolen = activate(theft);
        claim(stolen, theft, 0);
        vm.assertEq(token.balanceOf(THIEF), MONEY, "with one auditor, its key and the poster's are enough");

        token = new TestToken(6);
        ledger = new SettlementLedger(settingsOf(token, DELAY), handsOf(ADMIN, threeAuditors(), 2));
        token.mint(address(ledger), MONEY);
        uint256 one = post(theft);
        attest(one, AUDITOR_2);
        wait(365 days);
        expectNotActive(one, theft, 0);
    }

    /// @dev Two attestations of what a dispute has killed are no attestation of what takes its place.
    function test_attack_attestations_outlive_a_dispute() public {
        ledger = new SettlementLedger(settingsOf(token, DELAY), handsOf(ADMIN, threeAuditors(), 2));
        token.mint(address(ledger), MONEY);
        uint256 one = post(payoutsOf(ALICE, 10));
        attest(one, AUDITOR);
        dispute(one);
        Payouts memory theft = payoutsOf(THIEF, MONEY);
        one = post(theft);
        attest(one, AUDITOR_2);
        wait(DELAY);
        expectNotActive(one, theft, 0);
    }

    function test_attack_blacklisted_payee_in_claimMany() public {
        token.setBlocked(BOB, true);
        (bool ok,) = address(naive).call(naiveBatch());
        vm.assertTrue(!ok, "one payee stops the naive batch");

        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        vm.assertEq(ledger.claimMany(one, batchOf(payouts)), 400, "ours pays the others");
        token.setBlocked(BOB, false);
        vm.assertEq(claim(one, payouts, 1), 200, "and Bob later");
    }

    function test_attack_front_run_batch() public {
        bytes memory batch = naiveBatch();
        naive.claim(BOB, 2, 200);
        (bool ok,) = address(naive).call(batch);
        vm.assertTrue(!ok, "one claim in front of it stops the naive batch");

        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        claim(one, payouts, 1);
        vm.assertEq(ledger.claimMany(one, batchOf(payouts)), 400, "ours skips what is claimed");
    }

    /// @dev What a fee takes on the way in never counts, so every post is covered by what is there.
    function test_attack_fee_taking_token() public {
        FeeOnEveryTransfer fees = new FeeOnEveryTransfer();
        naive = new NaiveLedger(fees, DELAY);
        fees.mint(address(this), 2_000);
        fees.approve(address(naive), 1_000);
        naive.fund(1_000);
        naive.postFunded(Tree.payoutLeaf(ALICE, 1_000), 1_000);
        wait(DELAY);
        (bool ok,) = address(naive).call(abi.encodeCall(naive.claim, (ALICE, 1, 1_000)));
        vm.assertTrue(!ok, "the naive ledger promised what never arrived");

        ledger = deploy(fees, DELAY);
        fees.transfer(address(ledger), 1_000);
        bytes32 head = ledger.head();
        uint64 end = uint64(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, 900, 1_000, 0));
        vm.prank(POSTER);
        ledger.post(1, head, "w", "p", "m", end - 1, end, 1_000, 0);
        Payouts memory payouts = payoutsOf(ALICE, 900);
        vm.assertEq(claim(activate(payouts), payouts, 0), 900, "what arrived can be paid");
    }

    /// @dev Too little: nobody's part is paid with another's. Too much: it stays free, and what is owed never leaves.
    function test_attack_over_and_underfunding() public {
        naive = naiveWith(100);
        naivePost(ALICE, 100);
        naivePost(BOB, 100);
        wait(DELAY);
        naive.claim(ALICE, 1, 100);
        (bool ok,) = address(naive).call(abi.encodeCall(naive.claim, (BOB, 2, 100)));
        vm.assertTrue(!ok, "the naive ledger owes what it does not have");
        token.mint(address(naive), 100);
        naive.withdraw(THIEF, 100);
        vm.assertEq(token.balanceOf(THIEF), 100, "and lets its admin take what is owed");

        token.burn(address(ledger), MONEY - 100);
        Payouts memory both = payoutsOf(100, 100, 0);
        bytes32 head = ledger.head();
        bytes32 root = rootOf(both);
        uint64 end = uint64(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, 100, 200, 0));
        vm.prank(POSTER);
        ledger.post(1, head, "w", root, "m", end - 1, end, 200, 0);
        token.mint(address(ledger), 150);
        uint256 one = activate(both);
        vm.expectRevert(
            abi.encodeWithSelector(ISettlementLedger.TooEarlyToClose.selector, ledger.lastPostAt() + 400 days)
        );
        vm.prank(ADMIN);
        ledger.close(THIEF);
        vm.assertEq(claim(one, both, 0) + claim(one, both, 1), 200, "all that is owed is there");
    }

    /// @dev What a customer paid for a session that is still open pays nobody else, though it lies in the ledger.
    function test_attack_deposits_posted_away() public {
        naive = naiveWith(500); // Carol paid 500 before her session.
        naivePost(THIEF, 500);
        wait(DELAY);
        naive.claim(THIEF, 1, 500);
        naivePost(CAROL, 500);
        wait(DELAY);
        (bool ok,) = address(naive).call(abi.encodeCall(naive.claim, (CAROL, 2, 500)));
        vm.assertTrue(!ok, "the naive ledger has paid another with Carol's money");

        token.burn(address(ledger), MONEY - 500);
        bytes32 head = ledger.head();
        bytes32 root = rootOf(payoutsOf(THIEF, 500));
        uint64 end = uint64(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, 500, 500, 500));
        vm.prank(POSTER);
        ledger.post(1, head, "w", root, "m", end - 1, end, 500, 500);
        post(bytes32(0), 0, 500);
        wait(400 days);
        vm.prank(ADMIN);
        ledger.close(ADMIN);
        vm.assertEq(token.balanceOf(ADMIN), 0, "not even an idle ledger's admin has it");
        // The session ends unused, and is refunded. A post that leaves the deposits out contradicts the log: auditors
        // recount them, so it is disputed and never active.
        Payouts memory refund = payoutsOf(CAROL, 500);
        vm.assertEq(claim(activate(refund), refund, 0), 500, "Carol has her money back");
    }

    /// @dev Amounts above 2^64, as tokens of 18 decimals have them, are kept whole.
    function test_attack_token_of_18_decimals() public {
        token = new TestToken(18);
        uint256 earned = 2 ** 64 + 1;
        naive = naiveWith(3 * earned);
        uint256 sequence = naivePost(THIEF, earned);
        wait(DELAY);
        naive.claimSmall(THIEF, sequence, earned);
        naive.claimSmall(THIEF, sequence, earned);
        vm.assertEq(token.balanceOf(THIEF), 2 * earned - 1, "the naive ledger pays nearly all of it twice");

        ledger = deploy(token, DELAY);
        vm.prank(ADMIN);
        ledger.setMaxRate(1e28);
        token.mint(address(ledger), 3 * earned);
        Payouts memory payouts = payoutsOf(ALICE, earned);
        uint256 one = activate(payouts);
        claim(one, payouts, 0);
        expectClaimRefused(
            one, payouts, 0, abi.encodeWithSelector(ISettlementLedger.NothingToClaim.selector, ALICE, earned, earned)
        );
        vm.assertEq(token.balanceOf(ALICE), earned, "once");
    }

    // --------------------------------------------------------------------------------------------------- Naive

    function naiveWith(uint256 money) internal returns (NaiveLedger made) {
        made = new NaiveLedger(token, DELAY);
        token.mint(address(made), money);
    }

    function naivePost(address account, uint256 cumulative) internal returns (uint256 sequence) {
        sequence = naive.nextSequence();
        naive.post(Tree.payoutLeaf(account, cumulative));
    }

    /// @dev Alice, Bob and Carol in one batch.
    function naiveBatch() internal returns (bytes memory) {
        uint256[] memory sequences = new uint256[](3);
        address[] memory accounts = new address[](3);
        uint256[] memory cumulatives = new uint256[](3);
        (accounts[0], accounts[1], accounts[2]) = (ALICE, BOB, CAROL);
        for (uint256 i = 0; i < 3; ++i) {
            cumulatives[i] = 100 * (i + 1);
            sequences[i] = naivePost(accounts[i], cumulatives[i]);
        }
        wait(DELAY);
        return abi.encodeCall(naive.claimMany, (sequences, accounts, cumulatives));
    }
}

/// @notice Takes a tenth of every transfer, whoever sends it.
contract FeeOnEveryTransfer is TestToken {
    constructor() TestToken(6) {}

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0) && to != address(0)) super._update(to, address(0), amount / 10);
    }
}
